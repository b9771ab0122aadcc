"""`mnist-bp bench`: measures parts of this pipeline and their peers in turn."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import cluster, command, long_run, recipe, seeds, steps, steps_report, store
from bench.rounds import Log
from mnist_bp.cli import alive
from mnist_bp.cli.file_names import PngOrSvgFile
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.tables import print_whole

STEPS: Final = 10_000
"""Default of `--steps`."""

Subject = Literal["steps", "recipe", "seeds", "long", "command", "store", "cluster"]


class BenchCommand(Command):
    """Time parts of this pipeline in turn with their peers, and print the median and the range of each."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp bench")

    what: CliPositionalArg[Subject] = "steps"
    """`steps`: training steps of our engines and of other implementations; `recipe`: whole trainings of the preset
    relu-128, ours and torch's; `seeds`: 64 models side by side; `long`: the parts of a long run; `command`: the whole
    command, split into parts; `store`: publishing and verifying runs; `cluster`: parts of a sweep on two Ray nodes."""

    runs: int = Field(default=7, ge=1)
    """Counted rounds; one warm-up round comes before them. For `recipe`, seeds."""

    steps: int | None = Field(default=None, ge=1)
    """Training steps of a round, 10,000 by default; slow implementations take a fraction. For `long`, of each of ten
    parts; for `recipe`, of a training, those of the preset by default."""

    only: str = ""
    """For `steps` and `recipe`, the implementations to measure, separated by commas; by default all, or two."""

    plot: PngOrSvgFile = ""
    """For `steps`, also draw a bar chart to this file (.png or .svg)."""

    artifacts: str | None = None
    """For `store`, s3://bucket/prefix to compare with a local directory, or the local directory itself; existing files
    are not changed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and draw the chart if asked to."""
    options = parse(BenchCommand, arguments)
    console = Console(stderr=True)

    def log(line: str) -> None:
        console.print(Text(line), soft_wrap=True)
        alive.printed(line)

    result, table = _measure(options, log)
    if options.plot and options.what == "steps":
        steps_report.plot(result, Path(options.plot))
    if options.json_output:
        print(json.dumps(result))
    else:
        print_whole(table)
    return 0


def _measure(options: BenchCommand, log: Log) -> tuple[dict[str, Any], Table]:
    names = [name.strip() for name in options.only.split(",")] if options.only else None
    count = options.steps or STEPS
    match options.what:
        case "steps":
            result = steps.measure(options.runs, count, names, log)
            return result, steps_report.table(result)
        case "recipe":
            result = recipe.measure(options.runs, options.steps, names, log)
            return result, recipe.table(result)
        case "seeds":
            result = seeds.measure(options.runs, count, log)
            return result, seeds.table(result)
        case "long":
            result = long_run.measure(options.runs, count, log)
            return result, long_run.table(result)
        case "command":
            result = command.measure(options.runs, log)
            return result, command.table(result)
        case "store":
            result = store.measure(options.runs, options.artifacts or "", log)
            return result, store.table(result)
        case "cluster":
            result = cluster.measure(options.runs, count, log)
            return result, cluster.table(result)


if __name__ == "__main__":
    sys.exit(main())
