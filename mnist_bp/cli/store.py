"""`mnist-bp store check`: what a store honours, found out by trying it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, Literal

from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.errors import StoreError
from mnist_bp.storage.address import open_store
from mnist_bp.storage.probe import Capability, probe

_CONDITIONAL: Final = "conditional"
"""How the names of the findings begin that champions alone need."""


class StoreCheckCommand(StoreCommand):
    """Try what a store honours, on small files of its own; exit code 1 if that is not everything."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp store")

    what: CliPositionalArg[Literal["check"]]
    """What to do: check."""


def main(arguments: Sequence[str]) -> int:
    """Check a store.

    Returns:
        0, or 1 if anything fails; where only conditional writes do, the store takes runs, but moves no champion safely.
    """
    command = parse(StoreCheckCommand, arguments)
    try:
        findings = probe(open_store(command.artifacts, attempts=3))
    except StoreError as exc:  # it cannot be reached
        findings = [Capability("authentication and write", False, str(exc))]
    runs = all(finding.ok for finding in findings if not finding.name.startswith(_CONDITIONAL))
    champions = runs and all(finding.ok for finding in findings)
    if command.json_output:
        report = {"artifacts": command.artifacts, "findings": [asdict(each) for each in findings]}
        print(json.dumps({**report, "takes_runs": runs, "takes_champions": champions}))
        return 0 if champions else 1
    table = Table("", "", "what was found", title=command.artifacts)
    for finding in findings:
        table.add_row(finding.name, "yes" if finding.ok else "NO", Text(finding.detail))
    console = Console()
    console.print(table)
    console.print(f"runs can {'' if runs else 'NOT '}be published here")
    if runs and not champions:
        console.print(
            "champions cannot be moved safely here: promotion and mnist-bp rollback refuse to without "
            "--allow-unsafe-promotion",
            soft_wrap=True,
        )
    return 0 if champions else 1
