"""`mnist-bp gc --keep N`: delete old, unreferenced runs, and the files that dead processes left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag

from mnist_bp.cli.flags import DataCommand, StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.errors import counted
from mnist_bp.registry.champion_state import MAX_CHAMPIONS
from mnist_bp.registry.gc import Plan, collect, plan
from mnist_bp.registry.retention import RetentionPolicy


class GcCommand(StoreCommand, DataCommand, cli_prog_name="mnist-bp gc"):
    """Delete old published runs, run directories and temporary files; keep recent champions and runs in progress."""

    keep: int = Field(ge=0)
    """Keep this many of the newest complete runs of each dataset."""

    keep_champions: int = Field(default=3, ge=1, le=MAX_CHAMPIONS)
    """Keep this many of the latest champions of each dataset, including the current one."""

    grace_hours: float = Field(default=24, ge=0, le=24 * 3_650, allow_inf_nan=False)
    """Keep everything younger than this many hours, so that interrupted runs can still be resumed."""

    dry_run: CliToggleFlag[bool] = False
    """Show what would be deleted, and delete nothing."""


def main(arguments: Sequence[str]) -> int:
    """Delete what may be deleted, and print each deletion with its reason."""
    command = parse(GcCommand, arguments)
    policy = RetentionPolicy(command.keep, command.keep_champions, timedelta(hours=command.grace_hours))
    done = (plan if command.dry_run else collect)(command.store, Path(command.data_dir), policy)
    if command.json_output:
        say(json.dumps({"dry_run": command.dry_run, **asdict(done)}))
    else:
        _print(done, "would delete" if command.dry_run else "deleted")
    return 0


def _print(done: Plan, verb: str) -> None:
    removals = (*done.runs, *done.directories)
    for each in removals:
        say(f"{verb:<14}{each.uri}: {each.why} ({counted(each.files, 'file')}, {counted(each.size, 'byte')})")
    for uri in done.leftovers:
        say(f"{verb:<14}{uri}: temporary file of a process that died")
    for run_id, why in done.kept.items():
        say(f"{'kept':<14}{run_id}: {why}")
    for run_id in done.in_use:
        say(f"{'kept':<14}{run_id}: another process is using it")
    size = sum(each.size for each in removals)
    directories = f"{len(done.directories):,} run director{'y' if len(done.directories) == 1 else 'ies'}"
    counts = f"{counted(len(done.runs), 'run')}, {directories}, {counted(len(done.leftovers), 'temporary file')}"
    say(f"{verb} {counts}; {counted(size, 'byte')}")
