"""Aliases: further names of runs, such as `production`, in the log of their dataset's champion.

The move of an alias is an entry of that log, like a promotion. So of several moves at the same time one succeeds, and a
run that has an alias is not removed: `registry/gc.py` and `registry/delete.py` decide about a run in the log, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import ALIAS, LATEST, RUN_ID
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import append, attempts, read_log
from mnist_bp.registry.comparison import read_published_model
from mnist_bp.registry.log_entries import check_conditional_writes, log_prefix
from mnist_bp.registry.names import ALIAS_EXPECTED, CHAMPION_NAME, find_alias
from mnist_bp.registry.promotion_record import read_existing_log
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class AliasMove:
    """The result of a move.

    Args:
        alias: The alias.
        dataset: The dataset of its runs.
        run_before, run_after: The runs that it named and names; None for no run. Equal if nothing was changed.
    """

    alias: str
    dataset: str
    run_before: str | None
    run_after: str | None


def check_alias(alias: str) -> None:
    """Refuse a name that cannot be an alias.

    Raises:
        ConfigError: It is the id of a run, has another meaning, or has other characters, such as a slash.
    """
    if RUN_ID.fullmatch(alias):
        raise ConfigError(f"alias {alias!r}: it is the id of a run; {ALIAS_EXPECTED}")
    if alias in (LATEST, CHAMPION_NAME) or not re.fullmatch(ALIAS, alias):
        raise ConfigError(f"alias {alias!r}: {ALIAS_EXPECTED}")


def move_alias(store: Store, run_id: str, alias: str, *, allow_unsafe: bool = False) -> AliasMove:
    """Let an alias name a run, and no longer the run of the same dataset that it named before.

    Args:
        store: Store with the run.
        run_id: Id of a complete run.
        alias: The alias; see `check_alias`.
        allow_unsafe: Whether to change the log even if the store ignores conditional writes.

    Raises:
        ConfigError: The name cannot be an alias.
        ChecksumError, DataFormatError: The log or the run's manifest is damaged; the alias stays.
        StoreError: The run does not exist or is being removed, its dataset has no champion, the store ignores
            conditional writes, or another process moved the alias in the meantime.
    """
    check_alias(alias)
    run = read_published_model(store, run_id)
    log = read_existing_log(store, run.dataset)
    if log.current is None:
        raise StoreError(
            f"{store.uri(log_prefix(run.dataset))}: {run.dataset} has no champion yet, and its log, which holds the "
            f"aliases, begins with one; make a run champion with mnist-bp rollback {run_id}"
        )
    before = log.aliases.get(alias)
    if before == run_id:
        return AliasMove(alias, run.dataset, before, run_id)
    check_conditional_writes(store, run.dataset, allow_unsafe=allow_unsafe)
    reason = f"alias {alias} names {run_id}, in place of {before or 'no run'}"
    for _ in attempts():
        log.check_not_pending(run_id)
        read_manifest(store, run_id, run.manifest_sha256)  # a collection may have begun and ended since
        if append(store, log.with_alias(alias, run_id, run.manifest_sha256, reason)):
            return AliasMove(alias, run.dataset, before, run_id)
        log = read_log(store, run.dataset)
        if log.aliases.get(alias) != before:
            break
    raise _overtaken(store, alias, run.dataset, log.aliases.get(alias))


def remove_alias(store: Store, alias: str, dataset: str | None = None, *, allow_unsafe: bool = False) -> AliasMove:
    """Remove an alias; the run that it named stays.

    Args:
        store: Store with the alias.
        alias: The alias.
        dataset: Its dataset; None if one dataset alone has the alias.
        allow_unsafe: See `move_alias`.

    Raises:
        ConfigError, ChecksumError, DataFormatError: See `mnist_bp.registry.names.find_alias`.
        StoreError: No run has the alias, the store ignores conditional writes, or another process moved the alias in
            the meantime.
    """
    log = find_alias(store, alias, dataset)
    before = log.aliases[alias]
    check_conditional_writes(store, log.dataset, allow_unsafe=allow_unsafe)
    for _ in attempts():
        if append(store, log.without_alias(alias, f"alias {alias} of {before} removed")):
            return AliasMove(alias, log.dataset, before, None)
        log = read_log(store, log.dataset)
        if log.aliases.get(alias) != before:
            break
    raise _overtaken(store, alias, log.dataset, log.aliases.get(alias))


def _overtaken(store: Store, alias: str, dataset: str, run_id: str | None) -> StoreError:
    return StoreError(
        f"{store.uri(log_prefix(dataset))}: another process changed it in the meantime, and alias {alias} names "
        f"{run_id or 'no run'}; see mnist-bp alias, and decide again"
    )
