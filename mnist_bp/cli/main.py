"""The command line: `mnist-bp COMMAND`, or `python -m mnist_bp COMMAND`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Final

from mnist_bp.cli import alive
from mnist_bp.cli.output import say
from mnist_bp.cli.process import INTERRUPTED, FastExit, print_error, reduce_garbage_collection
from mnist_bp.errors import ConfigError, MnistBpError
from mnist_bp.storage.proxies import accept_gnome_proxies

COMMANDS: Final[Mapping[str, str]] = {
    "train": "run the whole pipeline without Prefect",
    "runs": "list the published runs; plot their accuracy",
    "show": "show one run in full",
    "predict": "classify pictures of digits, or batches of images",
    "open": "open the report of a run in a browser",
    "compare": "compare two runs of one dataset",
    "export": "write the model of a run for other tools: ONNX, NumPy, PyTorch",
    "alias": "give a run a name that keeps it",
    "delete": "delete one run",
    "verify": "verify that published runs and local caches are intact",
    "gc": "delete old runs; keep recent champions",
    "champion": "show the champion of each dataset and its history",
    "rollback": "make the previous champion, or another run, the champion",
    "track": "log a published run to an MLflow server",
    "store": "check what a store supports",
    "certify": "check an engine's gradients against autograd",
    "reproduce": "retrain the lab's network and compare with the published accuracy",
    "ladder": "show what each better way to train the network gains",
    "bench": "benchmark the pipeline against other implementations",
}
"""What each command does. Its `main` is in the module of its name, imported when the command runs: `--help` is fast,
and nothing here imports `bench`, which only a checkout has."""

_SYNONYMS: Final[Mapping[str, str]] = {
    "history": "runs",
    "list": "runs",
    "plot": "runs",
    "onnx": "export",
    "check": "verify",
    "diff": "compare",
    "tag": "alias",
    "remove": "delete",
    "clean": "gc",
    "classify": "predict",
    "promote": "rollback",
    "resume": "train",
}
"""Other words for commands, to suggest the right one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command's name and its flags; those of this process when None.

    Returns:
        The exit code: 0, 1 (failed or refused), 2 (bad usage) or 130 (interrupted).
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        say("usage: mnist-bp COMMAND [flags]\n\ncommands:")
        for command, purpose in COMMANDS.items():
            say(f"  {command:<10} {purpose}")
        say("\nmnist-bp COMMAND --help lists the flags of a command")
        say("mnist-bp --version prints the version and the digest of the code")
        return 0
    if name == "--version":
        from mnist_bp.registry.code import code_sha256

        say(f"mnist-bp {metadata.version('mnist-bp')}, code SHA-256 {code_sha256()}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, *_SYNONYMS], n=1, cutoff=0.7)
        meant = _SYNONYMS.get(near[0], near[0]) if near else None
        expected = f"did you mean {meant}?" if meant else f"expected one of {', '.join(COMMANDS)};"
        print_error(f"mnist-bp {name}: no such command; {expected} see mnist-bp --help")
        return 2
    accept_gnome_proxies()
    try:
        module = importlib.import_module("bench.__main__" if name == "bench" else f"mnist_bp.cli.{name}")
        code: int = module.main(rest)
    except MnistBpError as exc:
        print_error(str(exc))
        return 2 if isinstance(exc, ConfigError) else 1
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    return code


def script() -> None:
    """Run the command of this process, and end the process with its exit code."""
    reduce_garbage_collection()
    alive.start(sys.argv[1] if len(sys.argv) > 1 else "mnist-bp")
    FastExit().run(main)
