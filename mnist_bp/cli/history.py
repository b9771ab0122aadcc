"""`mnist-bp history`: how well run after run did, in a table and in a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_settings import SettingsConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.cli.flags import ChampionDataset, StoreCommand, parse
from mnist_bp.registry.catalog import catalog_runs
from mnist_bp.registry.overview import find_champions, summarize_run
from mnist_bp.report.plots import history_png
from mnist_bp.storage.files import check_writable, write_bytes
from mnist_bp.storage.interface import Store


class HistoryCommand(StoreCommand):
    """Tell the accuracy of every complete run, the newest last."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp history")

    dataset: ChampionDataset | None = None
    """Only runs on this one; by default all."""

    plot: str | None = None
    """Where a picture of it goes; by default none is drawn."""


def main(arguments: Sequence[str]) -> int:
    """Tell the history; what is damaged is left out, and named."""
    command = parse(HistoryCommand, arguments)
    if command.plot:
        check_writable(Path(command.plot).absolute().parent)
    rows, problems = history(command.store, command.dataset)
    drawn = command.plot if rows else None
    if drawn:
        write_bytes(Path(drawn), history_png(rows))
    if command.json_output:
        about = {"artifacts": command.artifacts, "runs": rows, "plot": drawn, "problems": problems}
        print(json.dumps(about))
        return 0
    console = Console()
    if rows:
        console.print(_table(rows))
    else:
        of = f" of {command.dataset}" if command.dataset else ""
        console.print(Text(f"no complete runs{of} in {command.artifacts} yet"), soft_wrap=True)
    for line in [*problems, *([f"drawn in {drawn}"] if drawn else [])]:
        console.print(Text(line), soft_wrap=True)
    return 0


def history(store: Store, dataset: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Gather what every complete run achieved, from the manifests, which are proved.

    Args:
        store: Where runs were published.
        dataset: Only runs on this one; None for all.

    Returns:
        For each run, in order of time, what `mnist_bp.registry.overview.describe` tells; and what is wrong with those
        that cannot be believed.
    """
    champions, problems = find_champions(store)
    rows = [summarize_run(run, champions) for run in catalog_runs(store)]
    problems += [row["damage"] for row in rows if row["damage"]]
    return [row for row in rows if row["status"] == "complete" and dataset in (None, row["dataset"])], problems


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # as wide as 80 columns allow
    for name in ("date", "run", "dataset", "engine"):
        table.add_column(name, no_wrap=True)
    for name in ("seed", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        figures = (str(row["seed"]), f"{row['accuracy']:.4f} {'*' if row['champion'] else ' '}")
        table.add_row(row["created"][:10], row["run_id"], row["dataset"], row["engine"], *figures)
    return table
