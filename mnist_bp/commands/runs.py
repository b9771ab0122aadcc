"""`mnist-bp runs`: every published run in a line, the newest last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic_settings import SettingsConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.catalog import CatalogedRun, catalog_runs
from mnist_bp.champion import list_champions, read_champion
from mnist_bp.cli import StoreCommand, parse
from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.store import Store

_TOLD: Final = ("created", "dataset", "engine", "seed", "steps", "accuracy", "loss", "train_seconds")
"""What `describe` takes from a manifest."""


class RunsCommand(StoreCommand):
    """List the published runs, the newest last."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp runs")


def main(arguments: Sequence[str]) -> int:
    """List the runs; what is damaged is shown as such."""
    command = parse(RunsCommand, arguments)
    store = command.store
    champions, problems = find_champions(store)
    rows = [describe(run, champions) for run in catalog_runs(store)]
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


def find_champions(store: Store) -> tuple[set[str], list[str]]:
    """Return the runs that are champions, and what is wrong with pointers that cannot be believed."""
    champions, problems = set(), []
    for dataset in list_champions(store):
        try:
            pointer = read_champion(store, dataset)
        except (ChecksumError, DataFormatError) as exc:
            problems.append(str(exc))
        else:
            champions |= {pointer.current.run_id} if pointer.current else set()
    return champions, problems


def describe(run: CatalogedRun, champions: set[str]) -> dict[str, Any]:
    """Describe a run in a few words; all but its id and its status are None where no manifest tells."""
    run_id = run.listed.run_id
    about: dict[str, Any] = dict.fromkeys(_TOLD)
    damage = run.damage
    if run.manifest is not None:
        try:
            about = _about(run.manifest)
        except (KeyError, IndexError, TypeError) as exc:
            damage = f"the manifest of {run_id} lacks what every manifest has ({exc!r})"
    status = "damaged" if damage else "complete" if run.listed.complete else "incomplete"
    return {
        "run_id": run_id,
        "status": status,
        **about,
        "champion": run_id in champions,
        "files": len(run.listed.files),
        "bytes": run.listed.bytes,
        "damage": damage,
    }


def _about(manifest: Mapping[str, Any]) -> dict[str, Any]:
    last = manifest["checkpoints"][-1]
    return {
        "created": manifest["created"],
        "dataset": manifest["dataset"]["name"],
        "engine": manifest["engine"],
        "seed": manifest["seed"],
        "steps": last["step"],
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "train_seconds": manifest["train_seconds"],
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("dataset", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for name in ("steps", "accuracy", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        mark = "champion " * row["champion"] + (row["status"] if row["status"] != "complete" else "")
        if row["steps"] is None:
            table.add_row(row["run_id"], "", "", "", "", "", mark)
            continue
        figures = (f"{row['steps']:,}", f"{row['accuracy']:.4f}", f"{row['train_seconds']:.2f}")
        table.add_row(row["run_id"], row["dataset"], row["engine"], *figures, mark.strip())
    return table
