"""`mnist-bp show RUN`: a run's manifest, for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.cli.flags import StoreCommand, parse
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
        print(json.dumps(report))
    else:
        try:
            _print(Console(), report)
        except (KeyError, IndexError, TypeError) as exc:
            raise DataFormatError(f"the manifest of {command.run} lacks what every manifest has ({exc!r})") from exc
    return 1 if report["problems"] else 0


def report_on(store: Store, run_id: str) -> dict[str, Any]:
    """Gather what `--json` prints."""
    manifest, sha256 = read_manifest(store, run_id)
    champions, problems = find_champions(store)
    promotion: dict[str, Any] | None
    try:
        promotion = asdict(decided) if (decided := read_promotion(store, run_id)) else None
    except (ChecksumError, DataFormatError) as exc:
        promotion = {"outcome": "damaged", "reason": str(exc)}
        problems.append(str(exc))
    return {
        "run_id": run_id,
        "uri": store.uri(RUNS + run_id),
        "manifest_sha256": sha256,
        "champion": run_id in champions,
        "manifest": manifest,
        "promotion": promotion,
        "problems": problems,
    }


def _print(console: Console, report: Mapping[str, Any]) -> None:
    manifest = report["manifest"]
    for name, value in _facts(report, manifest).items():
        console.print(Text(f"{name:<15}{value}"), soft_wrap=True)
    console.print(_table("configuration", "", {name: [_text(value)] for name, value in manifest["config"].items()}))
    rows = accuracy_rows(manifest["checkpoints"])
    table = Table(*rows[0], title="checkpoints", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    files = {name: [f"{file['bytes']:,}", file["sha256"][:16]] for name, file in manifest["files"].items()}
    console.print(_table("files", "size", files, "SHA-256"))
    for problem in report["problems"]:
        console.print(Text(problem), soft_wrap=True)


def _facts(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, str]:
    dataset, code, certificate = manifest["dataset"], manifest["code"], manifest["certificate"]
    promotion = report["promotion"] or {"outcome": "not decided", "reason": "no promotion.json is there"}
    resumed = manifest.get("resumed") or []
    return {
        "run": report["run_id"] + (f", the champion of {dataset['name']}" if report["champion"] else ""),
        "published to": report["uri"],
        "dataset": f"{dataset['name']}, {dataset['train_examples']:,} + {dataset['test_examples']:,} images",
        **({"notice": dataset["notice"]} if dataset["notice"] else {}),
        "engine": f"{manifest['engine']} on {manifest['device']}, seed {manifest['seed']}",
        "training": f"{manifest['checkpoints'][-1]['step']:,} steps in {manifest['train_seconds']:.2f} s",
        **({"resumed": f"{len(resumed)} times: {_text(resumed)}"} if resumed else {}),
        "certificate": _text(certificate.get("summary") or ("passed" if certificate.get("passed") else certificate)),
        "promotion": f"{promotion['outcome']}: {promotion['reason']}",
        "code": f"mnist-bp {code['version']}, SHA-256 {code['sha256'][:16]}",
        "manifest": f"SHA-256 {report['manifest_sha256']}",
    }


def _table(title: str, heading: str, rows: Mapping[str, Sequence[str]], *headings: str) -> Table:
    table = Table("", heading, *headings, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.show_header = bool(heading)
    if headings:
        table.columns[1].justify = "right"
    for name, values in rows.items():
        table.add_row(name, *(Text(value) for value in values))
    return table


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
