"""The command line: `mnist-bp COMMAND`, or `python -m mnist_bp COMMAND`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from mnist_bp.cli.process import INTERRUPTED, LastExit, collect_garbage_seldom, print_error
from mnist_bp.errors import MnistBpError

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "train": (
        "mnist_bp.cli.train",
        "make a run without Prefect, from download to promotion",
    ),
    "runs": ("mnist_bp.cli.runs", "list the published runs; plot their accuracy"),
    "show": ("mnist_bp.cli.show", "tell everything about one run"),
    "verify": ("mnist_bp.cli.verify", "prove that champions, or runs, are intact to the last byte"),
    "gc": ("mnist_bp.cli.gc", "remove runs that nobody will ask for again"),
    "store": ("mnist_bp.cli.store", "find out what a store honours"),
    "certify": ("mnist_bp.cli.certify", "prove an engine's gradients, against autograd and the reference"),
    "reproduce": ("mnist_bp.cli.reproduce", "train the published network anew under many orders of the examples"),
    "champion": ("mnist_bp.cli.champion", "show the champion of each dataset, and how it came to be"),
    "rollback": ("mnist_bp.cli.rollback", "make the champion before this one, or any run, the champion"),
    "bench": ("bench.__main__", "time the engines against other ways to train the same network"),
}
"""For each command its module, which has a `main`, and what it does. Modules are named, not imported: `--help` costs
nothing, and no arrow points from here to `bench`, which comes with a checkout alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, 1 (failed, or refused), 2 (bad usage) or 130 (interrupted).
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: mnist-bp COMMAND [flags]; mnist-bp COMMAND --help tells more\n")
        for command, (_, purpose) in COMMANDS.items():
            print(f"  {command:<12}{purpose}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.7)
        meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)};"
        print_error(f"mnist-bp {name}: no such command; {meant} see mnist-bp --help")
        return 2
    try:
        code: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    return code


def script() -> None:
    """Run the command of this process, and end the process with its exit code."""
    collect_garbage_seldom()
    LastExit().run(main)
