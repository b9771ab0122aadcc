"""`mnist-bp bench`: this pipeline's parts against their peers, measured in turn."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import command as whole_command
from bench import population, steps, store
from mnist_bp.cli.flags import Command, parse

WIDTH: Final = 120
"""Columns that a table needs, also where a terminal is narrower."""

What = Literal["steps", "population", "command", "store"]


class BenchCommand(Command):
    """Time this pipeline's parts against their peers, in turn, and print medians with their spread."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp bench")

    what: CliPositionalArg[What] = "steps"
    """`steps` of training against other ways to train; a `population` of models; the whole `command`, split
    into parts; a `store` of runs."""

    runs: int = Field(default=7, ge=1)
    """Counted rounds; one more comes before them."""

    steps: int = Field(default=10_000, ge=1)
    """Training steps of a round; slow ways take a fraction."""

    only: str = ""
    """For `steps`, the ways to measure, separated by commas; all by default."""

    plot: str = Field(default="", pattern=r"^$|\.(png|svg)$")
    """For `steps`, where a picture goes (.png or .svg)."""

    artifacts: str = ""
    """For `store`, s3://bucket/prefix to measure beside a local directory, or the directory; what is there stays."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and draw it."""
    command = parse(BenchCommand, arguments)
    progress = Console(stderr=True)

    def on_progress(line: str) -> None:
        progress.print(Text(line), soft_wrap=True)

    result: dict[str, Any]
    table: Callable[[dict[str, Any]], Table]
    if command.what == "steps":
        names = [name.strip() for name in command.only.split(",")] if command.only else None
        result, table = steps.measure(command.runs, command.steps, names, on_progress), steps.table
    elif command.what == "population":
        result, table = population.measure(command.runs, command.steps, on_progress), population.table
    elif command.what == "store":
        result, table = store.measure(command.runs, command.artifacts, on_progress), store.table
    else:
        result, table = whole_command.measure(command.runs, on_progress), whole_command.table
    if command.plot and command.what == "steps":
        steps.plot(result, Path(command.plot))
    if command.json_output:
        print(json.dumps(result))
    else:
        console = Console()
        console.width = max(console.width, WIDTH)
        console.print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
