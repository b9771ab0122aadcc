"""Names of runs: what every RUN argument of a command can be, and the run that it means.

    20261125T072013Z-1d4ef8bd      the id of a run
    20261125T07                    the start of an id, of at least 6 characters, that one run alone has
    latest                         the newest complete run
    champion, champion:DATASET     the champion; without a dataset, the only one
    ALIAS, ALIAS:DATASET           the run that an alias names; without a dataset, if one dataset alone has the alias

The requests for a name do not grow with the number of runs: a start lists the runs that have it, `latest` the runs of a
month, and champions and aliases are read from the heads of the logs. An id costs no request, and may be of no run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import CHAMPION, RUN_ID, RUNS, earliest_run_id
from mnist_bp.registry.catalog import list_runs, unknown_run
from mnist_bp.registry.champion import ChampionLog
from mnist_bp.registry.promotion_record import datasets_with_champion, read_existing_log
from mnist_bp.registry.retention import CLOCK_SKEW
from mnist_bp.storage.interface import Store

LATEST: Final = "latest"
CHAMPION_NAME: Final = "champion"

MIN_PREFIX: Final = 6
"""Characters of the start of an id: a year and a month."""

MAX_NAMED: Final = 4
"""Candidates that a message names."""

MONTHS_SEARCHED: Final = 24
"""Months that are searched one by one for the newest run, before all runs are listed."""

_PREFIX: Final = re.compile(r"\d{1,8}|\d{8}T\d{0,6}|\d{8}T\d{6}Z(-[0-9a-f]{0,7})?")
_ALIAS: Final = re.compile(r"([a-z][a-z0-9-]{0,63})(?::([a-z0-9][a-z0-9-]{0,63}))?")


def resolve_run(store: Store, name: str, local: Iterable[str] = ()) -> str:
    """Return the id of the run that a name means; see the module.

    Args:
        store: Store with the runs.
        name: As a user gives it.
        local: Ids of further runs that a start of an id may mean, such as unfinished ones of this machine.

    Raises:
        ConfigError: The name fits several runs; the message names them.
        StoreError: The name fits no run, or the store cannot be read.
        ChecksumError, DataFormatError: The log with the champion or the alias is damaged or lost.
    """
    if RUN_ID.fullmatch(name):
        return name
    if name == LATEST:
        return _newest(store, datetime.now(UTC))
    if found := _ALIAS.fullmatch(name):
        alias, dataset = found.groups()
        return _champion(store, dataset) if alias == CHAMPION_NAME else _aliased(store, alias, dataset)
    if _PREFIX.fullmatch(name):
        return match_prefix(name, local, (run.run_id for run in list_runs(store, name)), store.uri(RUNS))
    raise unknown_run(store, name)


def match_prefix(prefix: str, local: Iterable[str], listed: Iterable[str], where: str) -> str:
    """Return the only id that has a start.

    Args:
        prefix: The start of an id.
        local: Ids of runs on this machine.
        listed: Ids in order, of which no more are read than a message names.
        where: Where the runs are, for the message.

    Raises:
        ConfigError: The start is too short, or several runs have it.
        StoreError: No run has it.
    """
    if len(prefix) < MIN_PREFIX:
        raise ConfigError(f"run {prefix}: expected an id, or at least {MIN_PREFIX} characters of its start")
    few = islice((run_id for run_id in listed if run_id.startswith(prefix)), MAX_NAMED + 1)
    found = sorted({*few, *(run_id for run_id in local if run_id.startswith(prefix))})
    if not found:
        raise StoreError(f"{where}: no run has an id that begins with {prefix}; see mnist-bp runs")
    if len(found) > 1:
        named = ", ".join(found[:MAX_NAMED]) + (", ..." if len(found) > MAX_NAMED else "")
        raise ConfigError(f"run {prefix}: several ids begin with it, expected one: {named}; give more characters")
    return found[0]


def _newest(store: Store, now: datetime) -> str:
    """Find the newest complete run. Months are searched from the newest on: usually one listing of one page.

    Runs that are dated in the future, by a wrong clock, are left out, as in `mnist_bp.registry.retention`.
    """
    end = earliest_run_id(now + CLOCK_SKEW)
    for start in _months_back_from(now + CLOCK_SKEW):
        if complete := [run.run_id for run in list_runs(store, start) if run.complete and run.run_id < end]:
            return complete[-1]
    raise StoreError(f"{store.uri(RUNS)}: no run is complete yet; run mnist-bp train")


def _months_back_from(day: datetime) -> Iterator[str]:
    """Return the starts of the ids of one month after the other, and last that of every id."""
    count = 12 * day.year + day.month - 1
    for number in range(count, count - MONTHS_SEARCHED, -1):
        yield f"{number // 12:04}{number % 12 + 1:02}"
    yield ""


def _champion(store: Store, dataset: str | None) -> str:
    found = {log.dataset: log.current.run_id for log in _logs(store, dataset) if log.current}
    if not found:
        of = f" of {dataset}" if dataset else ""
        raise StoreError(
            f"{store.uri(CHAMPION)}: there is no champion{of} yet: the first run on a dataset becomes its champion; "
            f"run mnist-bp train{f' --dataset {dataset}' if dataset else ''}"
        )
    return _only(CHAMPION_NAME, found)


def _aliased(store: Store, alias: str, dataset: str | None) -> str:
    logs = _logs(store, dataset)
    found = {log.dataset: log.aliases[alias] for log in logs if alias in log.aliases}
    if not found:
        known = sorted({name for log in logs for name in log.aliases})
        expected = f"the aliases are {', '.join(known)}" if known else "there are no aliases"
        of = f" of {dataset}" if dataset else ""
        raise StoreError(
            f"{alias!r}: no run{of} has this name: expected a run id, {LATEST}, {CHAMPION_NAME} or an alias; "
            f"{expected}; see mnist-bp runs"
        )
    return _only(alias, found)


def _logs(store: Store, dataset: str | None) -> list[ChampionLog]:
    """Read the log of a dataset, or of every dataset that has one."""
    return [read_existing_log(store, each) for each in ([dataset] if dataset else datasets_with_champion(store))]


def _only(name: str, found: dict[str, str]) -> str:
    if len(found) > 1:
        raise ConfigError(f"{name}: expected one of {', '.join(f'{name}:{dataset}' for dataset in found)}")
    (run_id,) = found.values()
    return run_id
