"""`mnist-bp alias [RUN NAME]`: list the aliases of runs, move one, or remove one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

from pydantic import model_validator
from pydantic_settings import CliPositionalArg

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_error
from mnist_bp.cli.tables import print_table
from mnist_bp.registry.aliases import AliasMove, check_alias, move_alias, remove_alias
from mnist_bp.registry.champion import read_logs
from mnist_bp.registry.names import resolve_run, split_name
from mnist_bp.storage.interface import Store


class AliasCommand(StoreCommand, cli_prog_name="mnist-bp alias"):
    """Let an alias name a run, and keep the run from mnist-bp gc; without arguments, list the aliases."""

    run: CliPositionalArg[str | None] = None
    """The run: its id, at least 6 characters of its start, latest, champion, or another alias."""

    name: CliPositionalArg[str | None] = None
    """The alias: lower-case letters, digits and hyphens, the first a letter. It is moved from the run it named."""

    remove: str | None = None
    """Remove this alias, NAME or NAME:DATASET; the run that it named stays."""

    allow_unsafe_promotion: bool = False
    """Proceed on a store without conditional writes, where a promotion at the same time may be lost."""

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        if (self.run is None) != (self.name is None):
            raise ValueError("expected a run and an alias, as in mnist-bp alias RUN NAME")
        if self.run is not None and self.remove is not None:
            raise ValueError("expected a run and an alias, or --remove, not both")
        return self


def main(arguments: Sequence[str]) -> int:
    """List, move or remove aliases.

    Returns:
        0, or 1 if aliases are listed and the log of a champion is damaged.
    """
    command = parse(AliasCommand, arguments)
    unsafe = command.allow_unsafe_promotion
    if command.run is not None and command.name is not None:
        check_alias(command.name)
        store = command.store
        done = move_alias(store, resolve_run(store, command.run), command.name, allow_unsafe=unsafe)
    elif command.remove is not None:
        alias, dataset = split_name(command.remove)
        done = remove_alias(command.store, alias, dataset, allow_unsafe=unsafe)
    else:
        return _list(command.store, json_output=command.json_output)
    say(json.dumps(asdict(done)) if command.json_output else _describe(done))
    return 0


def _describe(done: AliasMove) -> str:
    name = f"alias {done.alias} of {done.dataset}"
    if done.run_after is None:
        return f"{name} is removed; it named {done.run_before}"
    if done.run_before == done.run_after:
        return f"{name} already names {done.run_after}; nothing changed"
    return f"{name} names {done.run_after}{f', and no longer {done.run_before}' if done.run_before else ''}"


def _list(store: Store, *, json_output: bool) -> int:
    logs, problems = read_logs(store)
    rows = [(alias, log.dataset, run_id) for log in logs for alias, run_id in sorted(log.aliases.items())]
    if json_output:
        aliases = [dict(zip(("alias", "dataset", "run_id"), row, strict=True)) for row in rows]
        say(json.dumps({"aliases": aliases, "problems": problems}))
    elif rows:
        print_table(("alias", "dataset", "run"), rows)
    elif not problems:
        say("no aliases yet: mnist-bp alias RUN NAME makes one")
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0
