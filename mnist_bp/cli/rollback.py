"""`mnist-bp rollback [RUN]`: make the champion before this one, or any run of the dataset, the champion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from pydantic_settings import CliPositionalArg, SettingsConfigDict

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.data.datasets import DatasetName
from mnist_bp.registry.rollback import roll_back


class RollbackCommand(StoreCommand):
    """Make another run the champion of its dataset, after every file of it was proved intact."""

    model_config = SettingsConfigDict(cli_prog_name="mnist-bp rollback")

    run: CliPositionalArg[str | None] = None
    """The run to make champion; by default the one that was champion before the current one."""

    dataset: DatasetName | None = None
    """Whose champion; by default that of the run, or the only one there is."""

    allow_unsafe_promotion: bool = False
    """Do it even where the store ignores conditional writes, so that a promotion at the same time may be lost."""


def main(arguments: Sequence[str]) -> int:
    """Roll back and say what the champion is now."""
    command = parse(RollbackCommand, arguments)
    store = command.store
    done = roll_back(store, command.run, command.dataset, allow_unsafe=command.allow_unsafe_promotion)
    if command.json_output:
        print(json.dumps(asdict(done)))
    elif done.champion_before == done.champion_after:
        print(f"{done.champion_after} is the champion of {done.dataset} already; nothing was changed")
    else:
        before = done.champion_before or "none"
        print(f"{done.champion_after} is the champion of {done.dataset} now, in place of {before}")
    return 0
