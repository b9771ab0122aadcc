"""`mnist-bp store check`: find out by trial what a store supports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, Literal

from pydantic_settings import CliPositionalArg

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.tables import print_table
from mnist_bp.errors import StoreError
from mnist_bp.storage.address import open_existing_store
from mnist_bp.storage.probe import Capability, probe

_CONDITIONAL: Final = "conditional"
"""Prefix of the capabilities that only champions need."""


class StoreCheckCommand(StoreCommand, cli_prog_name="mnist-bp store"):
    """Check what a store supports by reading and writing small test files; exit code 1 if anything is unsupported."""

    what: CliPositionalArg[Literal["check"]]
    """What to do: check."""


def main(arguments: Sequence[str]) -> int:
    """Check a store.

    Returns:
        0, or 1 if a capability is missing. A store that only lacks conditional writes can hold runs, but cannot
        change champions safely.
    """
    command = parse(StoreCheckCommand, arguments)
    store = open_existing_store(command.artifacts, attempts=3, empty=True)
    try:
        findings = probe(store)
    except StoreError as exc:  # the store cannot be reached
        findings = [Capability("authentication and write", False, str(exc))]
    runs = all(finding.ok for finding in findings if not finding.name.startswith(_CONDITIONAL))
    champions = runs and all(finding.ok for finding in findings)
    if command.json_output:
        report = {"artifacts": command.artifacts, "findings": [asdict(each) for each in findings]}
        say(json.dumps({**report, "takes_runs": runs, "takes_champions": champions}))
        return 0 if champions else 1
    rows = [(finding.name, "yes" if finding.ok else "NO", finding.detail) for finding in findings]
    print_table(("capability", "supported", "detail"), rows, prose=("detail",))
    say(f"\nruns {'can' if runs else 'CANNOT'} be published to {command.artifacts}")
    if runs and not champions:
        say(
            "changing champions is not safe on this store: promotion and mnist-bp rollback refuse it without "
            "--allow-unsafe-promotion"
        )
    return 0 if champions else 1
