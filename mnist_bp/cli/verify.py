"""`mnist-bp verify`: check every file of champions or runs against the SHA-256 in its manifest."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag

from mnist_bp.cli.flags import DataCommand, StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.errors import counted
from mnist_bp.layout import CHAMPION, RUNS
from mnist_bp.registry.catalog import SEE_VERIFY
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.verify import verify
from mnist_bp.storage.file_check import FileCheck


class VerifyCommand(StoreCommand, DataCommand, cli_prog_name="mnist-bp verify"):
    """Verify that published runs and local caches are intact; exit code 1 if a file is damaged or missing."""

    run: CliPositionalArg[str | None] = None
    """The run to verify: an id, at least 6 characters of its start, latest, champion, or an alias; by default, the
    champion of each dataset."""

    all_runs: CliToggleFlag[bool] = Field(default=False, alias="all")
    """Verify all runs."""

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if self.run is not None and self.all_runs:
            raise ValueError("expected a run or --all, not both")
        return self


def main(arguments: Sequence[str]) -> int:
    """Verify, and print every file that is not intact.

    Returns:
        0, or 1 if a file is damaged, missing or unreadable, or if nothing is published.
    """
    command = parse(VerifyCommand, arguments)
    begin = time.perf_counter()
    store = command.store
    run_id = None if command.run is None else resolve_run(store, command.run)
    checks = list(verify(store, Path(command.data_dir), run_id, all_runs=command.all_runs))
    if not any(chain(store.list_entries(RUNS), store.list_entries(CHAMPION))):
        checks.append(FileCheck(store.uri(""), "missing", "nothing is published here; check --artifacts"))
    seconds = time.perf_counter() - begin
    counts = Counter(check.status for check in checks)
    bad = sum(check.bad for check in checks)
    findings = [check for check in checks if check.status not in ("ok", "not read")]
    if command.json_output:
        report = {"intact": not bad, "counts": counts, "seconds": seconds, "runs_not_read": counts["not read"]}
        say(json.dumps({**report, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            say(f"{finding.status:<12}{finding.uri}\n{'':<12}{finding.detail.removesuffix(SEE_VERIFY)}")
        files = counted(counts["ok"], "file")
        say(f"{files} intact, {bad:,} damaged, missing or unreadable ({seconds:.1f} s)")
        if others := counts["not read"]:
            verb = "was" if others == 1 else "were"
            say(f"{counted(others, 'other run')} {verb} not read: mnist-bp verify --all reads every run")
    return 1 if bad else 0
