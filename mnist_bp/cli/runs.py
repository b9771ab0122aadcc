"""`mnist-bp runs`: every published run in a line, the newest last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_settings import SettingsConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.registry.catalog import catalog_runs
from mnist_bp.registry.overview import find_champions, summarize_run


class RunsCommand(StoreCommand):
    """List the published runs, the newest last; * is a champion."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp runs")


def main(arguments: Sequence[str]) -> int:
    """List the runs; what is damaged is shown as such."""
    command = parse(RunsCommand, arguments)
    store = command.store
    champions, problems = find_champions(store)
    rows = [summarize_run(run, champions) for run in catalog_runs(store)]
    problems += [row["damage"] for row in rows if row["damage"]]
    if command.json_output:
        print(json.dumps({"artifacts": command.artifacts, "runs": rows, "problems": problems}))
        return 0
    console = Console()
    if rows:
        console.print(_table(rows))
    else:
        console.print(Text(f"no runs in {command.artifacts} yet"), soft_wrap=True)
    for problem in problems:
        console.print(Text(problem), soft_wrap=True)
    return 0


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # as wide as 80 columns allow
    table.add_column("run", no_wrap=True, min_width=len("20261125T181500Z-1a2b3c4d *"))  # whole, to be copied
    table.add_column("dataset", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for name in ("steps", "accuracy", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        run = row["run_id"] + (" *" if row["champion"] else "")
        if row["status"] != "complete":
            table.add_row(run, f"({row['status']})")  # no manifest tells of its dataset, nor of the rest
            continue
        figures = (f"{row['steps']:,}", f"{row['accuracy']:.4f}", f"{row['train_seconds']:.2f}")
        table.add_row(run, row["dataset"], row["engine"], *figures)
    return table
