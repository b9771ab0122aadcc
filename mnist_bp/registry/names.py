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
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import ALIAS, CHAMPION, DATASET, LATEST, RUN_ID, RUN_ID_START, RUNS, earliest_run_id, match_run_id
from mnist_bp.registry.catalog import list_runs, unknown_run
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.registry.promotion_record import datasets_with_champion, read_existing_log
from mnist_bp.registry.retention import CLOCK_SKEW
from mnist_bp.storage.interface import Store

CHAMPION_NAME: Final = "champion"

ALIAS_EXPECTED: Final = (
    "expected at most 64 lower-case letters, digits and hyphens, the first a letter, and neither latest nor champion"
)

MONTHS_SEARCHED: Final = 24
"""Months that are searched one by one for the newest run, before all runs are listed."""

_ALIAS: Final = re.compile(f"({ALIAS})(?::({DATASET}))?")


def resolve_run(store: Store, name: str, local: Iterable[str] = (), *, now: datetime | None = None) -> str:
    """Return the id of the run that a name means; see the module.

    Args:
        store: Store with the runs.
        name: As a user gives it.
        local: Ids of further runs that a start of an id may mean, such as unfinished ones of this machine.
        now: The time that `latest` is measured from; by default the present.

    Raises:
        ConfigError: The name fits several runs; the message names them.
        StoreError: The name fits no run, or the store cannot be read.
        ChecksumError, DataFormatError: The log with the champion or the alias is damaged or lost.
    """
    if RUN_ID.fullmatch(name):
        return name
    if name == LATEST:
        return _newest(store, now or datetime.now(UTC))
    if found := _ALIAS.fullmatch(name):
        alias, dataset = found.groups()
        return _champion(store, dataset) if alias == CHAMPION_NAME else find_alias(store, alias, dataset).aliases[alias]
    if RUN_ID_START.fullmatch(name):
        return match_run_id(name, local, (run.run_id for run in list_runs(store, name)), store.uri(RUNS))
    raise unknown_run(store, name)


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
    found = {log.dataset: log for log in _logs(store, dataset) if log.current}
    if not found:
        of = f" of {dataset}" if dataset else ""
        raise StoreError(
            f"{store.uri(CHAMPION)}: there is no champion{of} yet: the first run on a dataset becomes its champion; "
            f"run mnist-bp train{f' --dataset {dataset}' if dataset else ''}"
        )
    current = _only(CHAMPION_NAME, found).current
    assert current is not None
    return current.run_id


def split_name(name: str) -> tuple[str, str | None]:
    """Split ALIAS:DATASET; the dataset is None if it is not given.

    Raises:
        ConfigError: It does not have the form of an alias.
    """
    if found := _ALIAS.fullmatch(name):
        return found[1], found[2]
    raise ConfigError(f"alias {name!r}: {ALIAS_EXPECTED}")


def find_alias(store: Store, alias: str, dataset: str | None = None) -> ChampionLog:
    """Return the log that has an alias.

    Args:
        store: Store with the logs.
        alias: The alias.
        dataset: Its dataset; None if one dataset alone has it.

    Raises:
        ConfigError: Several datasets have the alias; the message names them.
        StoreError: None has it.
        ChecksumError, DataFormatError: A log is damaged or lost.
    """
    logs = _logs(store, dataset)
    found = {log.dataset: log for log in logs if alias in log.aliases}
    if not found:
        known = sorted({name for log in logs for name in log.aliases})
        expected = f"the aliases are {', '.join(known)}" if known else "there are no aliases"
        of = f" of {dataset}" if dataset else ""
        raise StoreError(
            f"{store.uri(RUNS)}: no run{of} has the name {alias!r}: expected a run id, {LATEST}, {CHAMPION_NAME} or an "
            f"alias; {expected}; see mnist-bp runs"
        )
    return _only(alias, found)


def _logs(store: Store, dataset: str | None) -> list[ChampionLog]:
    """Read the log of a dataset, or of every dataset that has one."""
    return [read_existing_log(store, each) for each in ([dataset] if dataset else datasets_with_champion(store))]


def _only(name: str, found: Mapping[str, ChampionLog]) -> ChampionLog:
    if len(found) > 1:
        raise ConfigError(f"{name}: expected one of {', '.join(f'{name}:{dataset}' for dataset in found)}")
    (log,) = found.values()
    return log
