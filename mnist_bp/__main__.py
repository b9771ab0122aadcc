"""`python -m mnist_bp COMMAND` is `mnist-bp COMMAND`."""

from mnist_bp.cli.main import script

if __name__ == "__main__":
    script()
