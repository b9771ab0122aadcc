"""`mnist-bp champion`: show the champion of each dataset and how it was chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.process import print_error
from mnist_bp.cli.tables import print_table
from mnist_bp.data.datasets import DatasetName
from mnist_bp.documents import ChampionChange, FrozenModel
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import (
    CHAMPION,
    champion_key,
    describe_lost_champion_file,
    list_champions,
    read_champion,
)
from mnist_bp.registry.promotion_record import lost_champion_files
from mnist_bp.storage.interface import Store


class ChampionCommand(StoreCommand, cli_prog_name="mnist-bp champion"):
    """Show the champion of each dataset, with its accuracy and history; exit code 1 if one is damaged or missing."""

    dataset: DatasetName | None = None
    """Show the champion of this dataset only."""


class Report(FrozenModel):
    """A champion as `--json` prints it.

    Args:
        dataset: Name of the dataset.
        pointer: URI of the champion file.
        run_id: The champion.
        since: Time at which it became champion.
        accuracy: Share of all test images.
        dataset_key: Key of the dataset that it was trained on.
        pending_deletion: Runs that mnist-bp gc is deleting.
        history: All changes, oldest first.
    """

    dataset: str
    pointer: str
    run_id: str
    since: str
    accuracy: float
    dataset_key: str
    pending_deletion: tuple[str, ...]
    history: tuple[ChampionChange, ...]


def main(arguments: Sequence[str]) -> int:
    """Show champions.

    Returns:
        0, or 1 if a champion file or manifest is damaged or missing.
    """
    command = parse(ChampionCommand, arguments)
    store = command.store
    datasets = [command.dataset] if command.dataset else sorted({*list_champions(store), *lost_champion_files(store)})
    reports, problems = [], []
    for dataset in datasets:
        try:
            reports.append(report_on(store, dataset))
        except (ChecksumError, DataFormatError, StoreError) as exc:
            if exc.transient:
                raise
            problems.append(str(exc))
    if command.json_output:
        print(json.dumps({"champions": [report.model_dump(mode="json") for report in reports], "problems": problems}))
    else:
        for report in reports:
            _print(report)
        if not reports and not problems:
            print(f"no champion in {store.uri(CHAMPION)} yet: the first run on a dataset becomes its champion")
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def report_on(store: Store, dataset: str) -> Report:
    """Collect the facts about the champion of a dataset.

    Raises:
        ChecksumError, DataFormatError: The champion file or manifest is damaged.
        StoreError: The dataset has no champion, or the champion file or run is missing.
    """
    champion = read_champion(store, dataset)
    pointer, current = store.uri(champion_key(dataset)), champion.current
    if current is None:
        if last := lost_champion_files(store).get(dataset):
            raise StoreError(describe_lost_champion_file(store, dataset, last))
        raise StoreError(f"{pointer}: {dataset} has no champion yet: the first run on it becomes its champion")
    try:
        manifest, _ = read_manifest(store, current.run_id, current.manifest_sha256)
    except StoreError as exc:
        if exc.transient:
            raise
        raise StoreError(
            f"{pointer} names a missing run: {exc}; restore the run, or choose another with mnist-bp rollback"
        ) from exc
    return Report(
        dataset=dataset,
        pointer=pointer,
        run_id=current.run_id,
        since=current.at,
        accuracy=manifest.final.accuracy,
        dataset_key=manifest.dataset.key,
        pending_deletion=champion.pending_deletion,
        history=champion.history,
    )


def _print(report: Report) -> None:
    rows = []
    for change in report.history:
        figures = change.figures
        accuracy = f"{figures.challenger_accuracy:.4f}" if figures else ""
        p = f"{figures.p_value:.2g}" if figures and figures.p_value is not None else ""
        rows.append((change.run_id, change.at[:19].replace("T", " "), change.action, accuracy, p))
    print(f"{report.dataset}: {report.run_id}\n")
    print_table(("run", "time (UTC)", "action", "accuracy", "p"), rows)
    print(f"\n{'accuracy':<15}{report.accuracy:.4f} on all test images")
    print(f"{'since':<15}{report.since}")
    print(f"{'reason':<15}{report.history[-1].reason}")
    print(f"{'file':<15}{report.pointer}\n")
