"""`mnist-bp rollback [RUN]`: make the previous champion, or any other run, the champion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from pydantic_settings import CliPositionalArg, CliToggleFlag

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.data.choice import KeptName
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.rollback import roll_back


class RollbackCommand(StoreCommand, cli_prog_name="mnist-bp rollback"):
    """Make another run the champion of its dataset, after verifying all its files."""

    run: CliPositionalArg[str | None] = None
    """The new champion: an id, at least 6 characters of its start, latest, or an alias; by default, the champion before
    the current one."""

    dataset: KeptName | None = None
    """Dataset whose champion changes; by default, the dataset of RUN, or the only dataset with a champion."""

    restart_log: CliToggleFlag[bool] = False
    """Start the log of the champion again with RUN, because the log is damaged or lost."""

    allow_unsafe_promotion: bool = False
    """Proceed on a store without conditional writes, where a promotion at the same time may be lost."""


def main(arguments: Sequence[str]) -> int:
    """Roll back, and print the new champion."""
    command = parse(RollbackCommand, arguments)
    store = command.store
    done = roll_back(
        store,
        None if command.run is None else resolve_run(store, command.run),
        command.dataset,
        allow_unsafe=command.allow_unsafe_promotion,
        restart_log=command.restart_log,
    )
    if command.json_output:
        say(json.dumps(asdict(done)))
    elif done.champion_before == done.champion_after:
        say(f"{done.champion_after} is already the champion of {done.dataset}; nothing changed")
    else:
        replaced = f", replacing {done.champion_before}" if done.champion_before else ""
        say(f"{done.champion_after} is now the champion of {done.dataset}{replaced}")
    return 0
