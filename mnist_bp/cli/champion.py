"""`mnist-bp champion`: show the champion of each dataset and how it was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_error
from mnist_bp.cli.tables import print_table
from mnist_bp.data.choice import KeptName
from mnist_bp.documents.champion import ChampionChange
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError, counted
from mnist_bp.layout import CHAMPION
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.gate import GateSettings, allowed_p
from mnist_bp.registry.log_entries import log_prefix, read_entry
from mnist_bp.registry.promotion_record import datasets_with_champion, read_existing_log
from mnist_bp.storage.interface import Store
from mnist_bp.storage.schema import FrozenModel


class ChampionCommand(StoreCommand, cli_prog_name="mnist-bp champion"):
    """Show the champion of each dataset, with its accuracy and history; exit code 1 if one is damaged or missing."""

    dataset: KeptName | None = None
    """Show the champion of this dataset only."""


class Report(FrozenModel):
    """A champion as `--json` prints it.

    Args:
        dataset: Name of the dataset.
        log: URI of the log's prefix.
        run_id: The champion.
        since: Time at which it became champion.
        reason: Why it became champion, in one sentence.
        accuracy: Share of all test images, by which a champion that replaced another was chosen.
        challenges: How many challenges it has withstood.
        next_p: Largest p that the next challenger may have, at the default significance.
        dataset_key: Key of the dataset that it was trained on.
        pending_deletion: Runs that mnist-bp gc or mnist-bp delete is deleting.
        aliases: The runs that have an alias, by alias.
        history: The last changes, oldest first.
    """

    dataset: str
    log: str
    run_id: str
    since: str
    reason: str
    accuracy: float
    challenges: int
    next_p: float
    dataset_key: str
    pending_deletion: tuple[str, ...]
    aliases: Mapping[str, str]
    history: tuple[ChampionChange, ...]


def main(arguments: Sequence[str]) -> int:
    """Show champions.

    Returns:
        0, or 1 if a log or manifest is damaged or missing.
    """
    command = parse(ChampionCommand, arguments)
    store = command.store
    datasets = [command.dataset] if command.dataset else datasets_with_champion(store)
    reports, problems = [], []
    for dataset in datasets:
        try:
            report = report_on(store, dataset)
            if report is not None:
                reports.append(report)
            elif command.dataset:
                uri = store.uri(log_prefix(dataset))
                problems.append(f"{uri}: {dataset} has no champion yet: the first run on it becomes its champion")
        except (ChecksumError, DataFormatError, StoreError) as exc:
            if exc.transient:
                raise
            problems.append(str(exc))
    if command.json_output:
        say(json.dumps({"champions": [report.model_dump(mode="json") for report in reports], "problems": problems}))
    else:
        for report in reports:
            _print(report)
        if not reports and not problems:
            say(f"no champion in {store.uri(CHAMPION)} yet: the first run on a dataset becomes its champion")
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def report_on(store: Store, dataset: str) -> Report | None:
    """Collect the facts about the champion of a dataset; None if it has none.

    Raises:
        ChecksumError, DataFormatError: The log or manifest is damaged or missing.
        StoreError: The run is missing.
    """
    log = read_existing_log(store, dataset)
    uri, current = store.uri(log_prefix(dataset)), log.current
    if current is None:
        return None
    try:
        manifest, _ = read_manifest(store, current.run_id, current.manifest_sha256)
    except StoreError as exc:
        if exc.transient:
            raise
        raise StoreError(
            f"{uri} names a missing run: {exc}; restore the run, or choose another with mnist-bp rollback"
        ) from exc
    return Report(
        dataset=dataset,
        log=uri,
        run_id=current.run_id,
        since=current.at,
        reason=read_entry(store, dataset, current.sequence)[0].reason,
        accuracy=manifest.final.accuracy,
        challenges=log.challenges,
        next_p=allowed_p(GateSettings.significance, log.challenges + 1),
        dataset_key=manifest.dataset.key,
        pending_deletion=log.pending_deletion,
        aliases=log.aliases,
        history=log.champions,
    )


def _challenges(report: Report) -> str:
    k = report.challenges + 1
    limit = f"{GateSettings.significance:g} / ({k} x {k + 1})"
    return f"{counted(report.challenges, 'run')} did not replace it; the next needs p <= {report.next_p:.3g} = {limit}"


def _print(report: Report) -> None:
    rows = []
    for change in report.history:
        accuracy = f"{change.accuracy:.4f}" if change.accuracy is not None else ""
        p = f"{change.p_value:.2g}" if change.p_value is not None else ""
        rows.append((change.run_id, change.at[:19].replace("T", " "), change.action, accuracy, p))
    say(f"{report.dataset}: {report.run_id}\n")
    print_table(("run", "time (UTC)", "action", "accuracy", "p"), rows)
    replaced = any(change.run_id == report.run_id and change.p_value is not None for change in report.history)
    chosen = "; it was chosen by them, so expect less on new ones" if replaced else ""
    say(f"\n{'accuracy':<15}{report.accuracy:.4f} on all test images{chosen}")
    say(f"{'since':<15}{report.since}")
    say(f"{'challenges':<15}{_challenges(report)}")
    say(f"{'reason':<15}{report.reason}")
    for alias, run_id in sorted(report.aliases.items()):
        say(f"{'alias':<15}{alias}: {run_id}")
    say(f"{'log':<15}{report.log}\n")
