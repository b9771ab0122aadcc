Command exited with non-zero status 1
/work/main/.venv/bin/mnist-bp train 0.41 0.36 0.04
