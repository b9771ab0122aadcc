"""`mnist-bp delete RUN`: delete one run, after one question."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic_settings import CliPositionalArg, CliToggleFlag

from mnist_bp.cli.flags import AnyRunCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_line
from mnist_bp.errors import ConfigError, counted
from mnist_bp.registry.delete import Deletion, delete_run, plan_deletion
from mnist_bp.registry.names import resolve_run
from mnist_bp.storage.address import absolute_address
from mnist_bp.training.workspace import list_run_ids


class DeleteCommand(AnyRunCommand, cli_prog_name="mnist-bp delete"):
    """Delete a run and its directory on this machine, unless it is a champion, has an alias, or is in progress."""

    run: CliPositionalArg[str]
    """The run: its id, or at least 6 characters of its start."""

    yes: CliToggleFlag[bool] = False
    """Do not ask."""


def main(arguments: Sequence[str]) -> int:
    """Delete a run.

    Returns:
        0, or 1 if the answer was no, and nothing was deleted.
    """
    command = parse(DeleteCommand, arguments)
    store, artifacts, data_dir = command.store, absolute_address(command.artifacts), Path(command.data_dir)
    run_id = resolve_run(store, command.run, list_run_ids(data_dir))
    plan = plan_deletion(store, artifacts, data_dir, run_id)
    if not command.yes and not _confirmed(plan):
        print_line("nothing was deleted")
        return 1
    done = delete_run(store, artifacts, data_dir, run_id)
    if command.json_output:
        directory = str(done.directory.path) if done.directory else None
        say(json.dumps({"run_id": run_id, "published": done.uri, "directory": directory, "size": _size(done)}))
    else:
        say(f"deleted {_describe(done)}")
    return 0


def _confirmed(plan: Deletion) -> bool:
    """Ask on stderr, and read the answer from stdin.

    Raises:
        ConfigError: stdin is not a terminal.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise ConfigError(f"delete {plan.run_id}: expected --yes, since stdin is no terminal to ask on")
    if plan.former_champion:
        print_line("it is the previous champion: mnist-bp rollback without a run can then no longer restore it")
    print_line(f"this deletes {_describe(plan)}; it cannot be undone. Delete? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _describe(plan: Deletion) -> str:
    manifest = plan.manifest
    about = f" ({manifest.dataset.name}, accuracy {manifest.final.accuracy:.4f})" if manifest else ""
    places = [place for place in (plan.uri, plan.directory and str(plan.directory.path)) if place]
    files = plan.files + (plan.directory.files if plan.directory else 0)
    return f"{plan.run_id}{about}: {' and '.join(places)}, {counted(files, 'file')}, {counted(_size(plan), 'byte')}"


def _size(plan: Deletion) -> int:
    return plan.size + (plan.directory.size if plan.directory else 0)
