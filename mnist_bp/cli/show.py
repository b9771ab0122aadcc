"""`mnist-bp show RUN`: show one published run in full."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

from pydantic import JsonValue
from pydantic_settings import CliPositionalArg

from mnist_bp.cli.flags import AnyRunCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.settings_file import settings_of, to_yaml
from mnist_bp.cli.tables import print_table, setting_text
from mnist_bp.cli.unfinished import naming_unfinished
from mnist_bp.documents.champion import PromotionRecord
from mnist_bp.documents.manifest import DatasetEntry, Manifest
from mnist_bp.errors import ChecksumError, DataFormatError, StoreError, counted, printable
from mnist_bp.layout import RUNS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import read_logs
from mnist_bp.registry.champion_state import aliases_by_run
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.storage.address import absolute_address
from mnist_bp.storage.interface import Store
from mnist_bp.storage.schema import FrozenModel
from mnist_bp.summary import accuracy_rows
from mnist_bp.training.interrupted import InterruptedRun, find_interrupted_run
from mnist_bp.training.resume import resume_flags
from mnist_bp.training.workspace import list_run_ids


class ShowCommand(AnyRunCommand, cli_prog_name="mnist-bp show"):
    """Show the manifest and the decision on a run, or how far an interrupted run came; exit code 1 if it is damaged."""

    run: CliPositionalArg[str]
    """The run: its id, at least 6 characters of its start, latest, champion, or an alias."""

    config: bool = False
    """Print the settings alone, as a file for mnist-bp train --config, which repeats the run."""


class DamagedRecord(FrozenModel):
    """Stands for a promotion record that is damaged."""

    outcome: Literal["damaged"] = "damaged"
    reason: str


class Report(FrozenModel):
    """The object that `--json` prints."""

    run_id: str
    uri: str
    manifest_sha256: str
    champion: bool
    aliases: tuple[str, ...]
    manifest: Manifest
    promotion: PromotionRecord | DamagedRecord | None
    problems: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """Show a run.

    Returns:
        0, or 1 if its promotion record or the file of a champion is damaged.
    """
    command = parse(ShowCommand, arguments)
    store = command.store
    run_id = resolve_run(store, command.run, list_run_ids(command.data_dir))
    if command.config:
        with naming_unfinished(command.data_dir, command.artifacts, run_id):
            manifest, _ = read_manifest(store, run_id)
        say(json.dumps(settings_of(manifest)) if command.json_output else to_yaml(manifest).rstrip())
        return 0
    try:
        report = report_on(store, run_id)
    except StoreError as exc:
        interrupted = find_interrupted_run(command.data_dir, run_id)
        if exc.transient or interrupted is None:
            raise
        if interrupted.artifacts != absolute_address(command.artifacts):
            raise StoreError(f"{exc}; the run was started with --artifacts {interrupted.artifacts}") from exc
        _show_interrupted(interrupted, command)
        return 0
    if command.json_output:
        say(json.dumps(report.model_dump(mode="json")))
    else:
        _print(report)
    return 1 if report.problems else 0


def report_on(store: Store, run_id: str) -> Report:
    """Collect the manifest and the promotion of a run.

    Raises:
        StoreError: The run does not exist or is incomplete.
        ChecksumError, DataFormatError: Its manifest is damaged.
    """
    manifest, sha256 = read_manifest(store, run_id)
    logs, problems = read_logs(store)
    promotion: PromotionRecord | DamagedRecord | None
    try:
        promotion = read_promotion(store, run_id)
    except (ChecksumError, DataFormatError) as exc:
        promotion = DamagedRecord(reason=str(exc))
        problems.append(str(exc))
    return Report(
        run_id=run_id,
        uri=store.uri(RUNS + run_id),
        manifest_sha256=sha256,
        champion=any(log.current is not None and log.current.run_id == run_id for log in logs),
        aliases=tuple(aliases_by_run(logs).get(run_id, ())),
        manifest=manifest,
        promotion=promotion,
        problems=tuple(problems),
    )


def _show_interrupted(run: InterruptedRun, command: ShowCommand) -> None:
    resume = shlex.join(["mnist-bp", "train", *resume_flags(run.run_id, command.data_dir)])
    if command.json_output:
        say(json.dumps({**asdict(run), "status": run.status, "resume": resume}))
        return
    facts = {
        "run": run.run_id,
        "status": f"{run.status}; not published",
        "dataset": run.dataset,
        "engine": f"{run.engine}, {name_seeds(run.seeds)}",
        "run directory": run.directory,
    }
    for name, value in facts.items():
        say(f"{name:<15}{value}")
    if not run.in_progress:
        say(f"\nresume it with:\n{resume}")


def name_seeds(seeds: tuple[int, ...]) -> str:
    """Name up to ten seeds, and the number and the range of more, as a run may have a million."""
    if len(seeds) > 10:
        return f"{len(seeds):,} seeds, {min(seeds):,} to {max(seeds):,}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _print(report: Report) -> None:
    manifest = report.manifest
    for name, value in _facts(report).items():
        say(f"{name:<15}{value}")
    say("\nconfiguration")
    for name, setting in manifest.config.items():
        say(f"  {name:<24}{setting_text(setting)}")
    say("\ncheckpoints")
    rows = accuracy_rows(manifest.checkpoints)
    print_table(rows[0], [row.values() for row in rows], right=rows[0])
    say("\nfiles, with size in bytes and start of SHA-256")
    longest = max(map(len, manifest.files), default=0)
    for name, file in manifest.files.items():
        say(f"  {name:<{max(40, longest + 1)}}{file.size:>10,}  {file.sha256[:16]}")
    for problem in report.problems:
        say(problem)


def _facts(report: Report) -> dict[str, str]:
    manifest, promotion = report.manifest, report.promotion
    dataset, code, certificate, resumed = manifest.dataset, manifest.code, manifest.certificate, manifest.resumed
    resumes = ", then ".join(f"from step {point.step:,} at {point.at}" for point in resumed)
    return {
        "run": report.run_id + (f", the champion of {dataset.name}" if report.champion else ""),
        **({"alias": ", ".join(report.aliases)} if report.aliases else {}),
        "published to": report.uri,
        "dataset": f"{dataset.name}, {dataset.train_examples:,} + {dataset.test_examples:,} images{_chosen(dataset)}",
        **({"images": _described(dataset)} if not dataset.shape.like_mnist else {}),
        **({"notice": dataset.notice} if dataset.notice else {}),
        "engine": f"{manifest.engine} on {manifest.device}, seed {manifest.seed}",
        **({"models": f"{manifest.models:,}, of which this is the best"} if manifest.models > 1 else {}),
        "training": f"{manifest.final.step:,} steps in {manifest.train_seconds:.2f} s",
        **({"resumed": f"{counted(len(resumed), 'time')}: {resumes}"} if resumed else {}),
        "certificate": _checked(certificate) if certificate.get("passed") else setting_text(certificate),
        "promotion": f"{promotion.outcome}: {promotion.reason}" if promotion else "not decided: no promotion.json",
        "code": f"mnist-bp {code.version}, SHA-256 {code.sha256[:16]}",
        "manifest": f"SHA-256 {report.manifest_sha256}",
    }


def _described(dataset: DatasetEntry) -> str:
    shape = dataset.shape
    return f"{shape.width} x {shape.height} pixels; {shape.classes} classes: {printable(', '.join(shape.class_names))}"


def _chosen(dataset: DatasetEntry) -> str:
    """Describe how images of the user's own were chosen."""
    rule = dataset.test_split
    chosen = f"; the test images are 1 in {rule.one_in} of each class, seed {rule.seed}" if rule else ""
    return chosen + (f"; {dataset.skipped:,} unreadable pictures are left out" if dataset.skipped else "")


def _checked(certificate: Mapping[str, JsonValue]) -> str:
    at = certificate.get("at")  # manifests of earlier versions have no time
    return (
        f"passed{f' on {str(at)[:10]}' if at else ''}{', before an earlier run' if certificate.get('reused') else ''}"
    )
