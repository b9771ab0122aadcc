"""`mnist-bp champion`: the champion of each dataset, and how it came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_settings import SettingsConfigDict
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.process import print_error
from mnist_bp.data.datasets import DatasetName
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import CHAMPION, champion_key, list_champions, pointer_is_gone, read_champion
from mnist_bp.registry.promotion_record import lost_pointers
from mnist_bp.storage.interface import Store


class ChampionCommand(StoreCommand):
    """Show the champion of each dataset, its figures and its history; exit code 1 if one is damaged."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp champion")

    dataset: DatasetName | None = None
    """Which dataset's; by default all that have one."""


def main(arguments: Sequence[str]) -> int:
    """Show champions.

    Returns:
        0, or 1 if a pointer, or the manifest that it points at, is damaged or gone.
    """
    command = parse(ChampionCommand, arguments)
    store = command.store
    there = list_champions(store)
    gone = {} if command.dataset in there else lost_pointers(store)
    asked = [command.dataset] if command.dataset else [*there, *gone]
    problems = [pointer_is_gone(store, dataset, gone[dataset]) for dataset in asked if dataset in gone]
    datasets = [dataset for dataset in asked if dataset not in gone]
    reports = []
    for dataset in datasets:
        try:
            reports.append(report(store, dataset))
        except (ChecksumError, DataFormatError, StoreError) as exc:
            if exc.transient:
                raise
            problems.append(str(exc))
    if command.json_output:
        print(json.dumps({"champions": reports, "problems": problems}))
    else:
        for each in reports:
            _print(Console(), each)
        if not datasets and not problems:
            print(f"there is no champion in {store.uri(CHAMPION)} yet: the first run of a dataset becomes one")
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def report(store: Store, dataset: str) -> dict[str, Any]:
    """Gather what there is to know about a dataset's champion.

    Returns:
        dataset, pointer (its URI), run_id, since, accuracy (as its manifest has it), dataset_key, pending_deletion, and
        history: all changes, oldest first.

    Raises:
        ChecksumError, DataFormatError: The pointer or the champion's manifest is damaged.
        StoreError: There is no champion, or the run that is one is gone.
    """
    champion = read_champion(store, dataset)
    pointer, current = store.uri(champion_key(dataset)), champion.current
    if current is None:
        raise StoreError(f"{pointer}: {dataset} has no champion yet: the first run of it becomes one")
    try:
        manifest, _ = read_manifest(store, current.run_id, current.manifest_sha256)
    except StoreError as exc:
        if exc.transient:
            raise
        raise StoreError(f"{pointer} points nowhere: {exc}; restore the run, or mnist-bp rollback to another") from exc
    return {
        "dataset": dataset,
        "pointer": pointer,
        "run_id": current.run_id,
        "since": current.at,
        "accuracy": manifest.final.accuracy,
        "dataset_key": manifest.dataset.key,
        "pending_deletion": list(champion.pending_deletion),
        "history": [change.model_dump(mode="json") for change in champion.history],
    }


def _print(console: Console, about: Mapping[str, Any]) -> None:
    run = Column("run", no_wrap=True, min_width=len("20261125T181500Z-1a2b3c4d"))  # whole, to be copied
    table = Table("#", "when", "what", run, "accuracy", "p", title=f"{about['dataset']}: {about['run_id']}")
    for change in about["history"]:
        figures = change["figures"] or {}
        accuracy, p = figures.get("challenger_accuracy"), figures.get("p_value")
        table.add_row(
            str(change["sequence"]),
            change["at"][:19].replace("T", " "),
            change["action"],
            change["run_id"],
            "" if accuracy is None else f"{accuracy:.4f}",
            "" if p is None else f"{p:.2g}",
        )
    console.print(table)
    facts = {
        "accuracy": f"{about['accuracy']:.4f} on all test images",
        "since": about["since"],
        "because": about["history"][-1]["reason"],
        "pointer": about["pointer"],
    }
    for name, value in facts.items():
        console.print(Text(f"{name:<15}{value}"), soft_wrap=True)
