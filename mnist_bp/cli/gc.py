"""`mnist-bp gc --keep N`: remove runs that nobody will ask for again, and what processes that died have left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag, SettingsConfigDict
from rich.console import Console
from rich.text import Text

from mnist_bp.cli.flags import DataCommand, StoreCommand, parse
from mnist_bp.registry.gc import Plan, collect, plan
from mnist_bp.registry.retention import RetentionPolicy


class GcCommand(StoreCommand, DataCommand):
    """Remove published runs, directories of runs, and leftovers; never what a champion or a running run can reach."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp gc")

    keep: int = Field(ge=0)
    """How many of the newest complete runs of each dataset stay."""

    keep_champions: int = Field(default=3, ge=1)
    """How many of the runs that were champion last stay, the present one included."""

    grace_hours: float = Field(default=24, ge=0, le=24 * 3_650)
    """What is younger stays: it may be in work. So long, too, a run that was broken off can be resumed."""

    dry_run: CliToggleFlag[bool] = False
    """Tell what would go, and leave it."""


def main(arguments: Sequence[str]) -> int:
    """Collect garbage and tell what went, or would go, and why."""
    command = parse(GcCommand, arguments)
    rules = RetentionPolicy(command.keep, command.keep_champions, timedelta(hours=command.grace_hours))
    done = (plan if command.dry_run else collect)(command.store, Path(command.data_dir), rules)
    if command.json_output:
        print(json.dumps({"dry_run": command.dry_run, **asdict(done)}))
        return 0
    _print(Console(), done, "would remove" if command.dry_run else "removed")
    return 0


def _print(console: Console, done: Plan, verb: str) -> None:
    removals = (*done.runs, *done.directories)
    lines = [f"{verb:<14}{each.uri}: {each.why} ({each.files} files, {each.size:,} bytes)" for each in removals]
    lines += [f"{verb:<14}{uri}: left by a process that died" for uri in done.leftovers]
    lines += [f"{'kept':<14}{run_id}: {why}" for run_id, why in done.kept.items()]
    lines += [f"{'kept':<14}{run_id}: somebody has begun to work on it" for run_id in done.in_use]
    size = sum(each.size for each in removals)
    lines.append(
        f"{verb} {len(done.runs)} runs, {len(done.directories)} directories of runs, {len(done.leftovers)} leftovers; "
        f"{size:,} bytes"
    )
    for line in lines:
        console.print(Text(line), soft_wrap=True)
