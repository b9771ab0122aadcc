"""`mnist-bp verify`: follow every digest from the champions' pointers to the last byte."""

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
from pydantic_settings import CliPositionalArg, CliToggleFlag, SettingsConfigDict
from rich.console import Console
from rich.text import Text

from mnist_bp.cli.flags import DataCommand, StoreCommand, parse
from mnist_bp.layout import RUNS
from mnist_bp.registry.champion import CHAMPION
from mnist_bp.registry.verify import verify
from mnist_bp.storage.file_check import FileCheck


class VerifyCommand(StoreCommand, DataCommand):
    """Prove published runs and local caches intact; exit code 1, and a list, if anything is damaged or missing."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp verify")

    run: CliPositionalArg[str | None] = None
    """The run's id; by default the champions of all datasets."""

    all_runs: CliToggleFlag[bool] = Field(default=False, alias="all")
    """Every run there is."""

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if self.run is not None and self.all_runs:
            raise ValueError("expected a run or --all, not both")
        return self


def main(arguments: Sequence[str]) -> int:
    """Verify, and print what is not as it should be.

    Returns:
        0, or 1 if anything is damaged, missing or unreadable, or nothing is there at all.
    """
    command = parse(VerifyCommand, arguments)
    begin = time.perf_counter()
    store = command.store
    findings = list(verify(store, Path(command.data_dir), command.run, all_runs=command.all_runs))
    if not any(chain(store.list_entries(RUNS), store.list_entries(CHAMPION))):
        findings.append(FileCheck(store.uri(""), "missing", "nothing is published here; check --artifacts"))
    seconds = time.perf_counter() - begin
    counts = Counter(finding.status for finding in findings)
    intact = not any(finding.bad for finding in findings)
    remarkable = [finding for finding in findings if finding.status != "ok"]
    if command.json_output:
        print(
            json.dumps(
                {
                    "intact": intact,
                    "counts": counts,
                    "seconds": seconds,
                    "findings": [asdict(finding) for finding in remarkable],
                }
            )
        )
        return 0 if intact else 1
    console = Console()
    for finding in remarkable:
        console.print(Text(f"{finding.status:<12}{finding.uri}\n{'':<12}{finding.detail}"), soft_wrap=True)
    bad = sum(finding.bad for finding in findings)
    verdict = "all intact" if intact else f"{bad:,} damaged, missing or unreadable"
    console.print(f"{counts['ok']:,} files proved in {seconds:.1f} s; {verdict}")
    return 0 if intact else 1
