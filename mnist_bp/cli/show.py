"""`mnist-bp show RUN`: a run's manifest, for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import JsonValue
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.documents import FrozenModel, Manifest, PromotionRecord
from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.layout import RUNS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.overview import find_champions
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.storage.interface import Store
from mnist_bp.summary import accuracy_rows


class ShowCommand(StoreCommand):
    """Tell everything about one run; exit code 1 if what it says about itself is damaged."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp show")

    run: CliPositionalArg[str]
    """The run's id, as mnist-bp runs lists it."""


def main(arguments: Sequence[str]) -> int:
    """Show a run.

    Returns:
        0, or 1 if the record of its promotion, or a champion's pointer, is damaged.
    """
    command = parse(ShowCommand, arguments)
    report = report_on(command.store, command.run)
    if command.json_output:
        print(json.dumps(report.model_dump(mode="json")))
    else:
        _print(Console(), report)
    return 1 if report.problems else 0


class DamagedRecord(FrozenModel):
    """Stands for a promotion record that is damaged."""

    outcome: Literal["damaged"] = "damaged"
    reason: str


class Report(FrozenModel):
    """What `--json` prints."""

    run_id: str
    uri: str
    manifest_sha256: str
    champion: bool
    manifest: Manifest
    promotion: PromotionRecord | DamagedRecord | None
    problems: tuple[str, ...]


def report_on(store: Store, run_id: str) -> Report:
    """Gather what is known about a run."""
    manifest, sha256 = read_manifest(store, run_id)
    champions, problems = find_champions(store)
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
        champion=run_id in champions,
        manifest=manifest,
        promotion=promotion,
        problems=tuple(problems),
    )


def _print(console: Console, report: Report) -> None:
    manifest = report.manifest
    for name, value in _facts(report).items():
        console.print(Text(f"{name:<15}{value}"), soft_wrap=True)
    console.print(_table("configuration", "", {name: [_text(value)] for name, value in manifest.config.items()}))
    rows = accuracy_rows(manifest.checkpoints)
    table = Table(*rows[0], title="checkpoints", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    files = {name: [f"{file.size:,}", file.sha256[:16]] for name, file in manifest.files.items()}
    console.print(_table("files", "size", files, "SHA-256"))
    for problem in report.problems:
        console.print(Text(problem), soft_wrap=True)


def _facts(report: Report) -> dict[str, str]:
    manifest, promotion, champion = report.manifest, report.promotion, report.champion
    dataset, code, certificate, resumed = manifest.dataset, manifest.code, manifest.certificate, manifest.resumed
    resumes = ", then ".join(f"from step {point.step:,} at {point.at}" for point in resumed)
    return {
        "run": report.run_id + (f", the champion of {dataset.name}" if champion else ""),
        "published to": report.uri,
        "dataset": f"{dataset.name}, {dataset.train_examples:,} + {dataset.test_examples:,} images",
        **({"notice": dataset.notice} if dataset.notice else {}),
        "engine": f"{manifest.engine} on {manifest.device}, seed {manifest.seed}",
        "training": f"{manifest.final.step:,} steps in {manifest.train_seconds:.2f} s",
        **({"resumed": f"{len(resumed)} times: {resumes}"} if resumed else {}),
        "certificate": _text(certificate.get("summary") or ("passed" if certificate.get("passed") else certificate)),
        "promotion": f"{promotion.outcome}: {promotion.reason}" if promotion else "not decided: no promotion.json",
        "code": f"mnist-bp {code.version}, SHA-256 {code.sha256[:16]}",
        "manifest": f"SHA-256 {report.manifest_sha256}",
    }


def _table(title: str, heading: str, rows: Mapping[str, Sequence[str]], *headings: str) -> Table:
    table = Table("", heading, *headings, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.show_header = bool(heading)
    if headings:
        table.columns[1].justify = "right"
    for name, values in rows.items():
        table.add_row(name, *(Text(value) for value in values))
    return table


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
