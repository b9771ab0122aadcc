"""Nights: the date and seed of a nightly run, whether and by which code it was trained before, and the latest nights.

A night is a run whose seed is a date. If no recent run is a night, every run counts as one. As soon as there is a
night, other runs are left out, since they may have had fewer steps or other settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import JsonValue

from mnist_bp.config import PLACES, RunConfig
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError
from mnist_bp.layout import PROMOTION, REPORT, run_key
from mnist_bp.model.sweep import parse_sweep
from mnist_bp.presets import training_name
from mnist_bp.registry.catalog import CatalogedRun, ListedRun, catalog_runs, list_runs
from mnist_bp.registry.code import code_sha256
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.report.nights import Night
from mnist_bp.storage.address import open_store, url_of
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel

_DAY: Final = timedelta(days=1)

ZONE_EXPECTED: Final = "expected a name such as UTC or Europe/Zurich"

NIGHTS_SHOWN: Final = 30
DAYS_SEARCHED: Final = NIGHTS_SHOWN + 10
RUNS_SEARCHED: Final = 4 * NIGHTS_SHOWN
"""Days and number of recent runs that are searched for nights: each run costs reading a manifest."""


def zone_of(name: str) -> ZoneInfo:
    """Find a time zone by its name, such as Europe/Zurich.

    Raises:
        ConfigError: No time zone has this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:  # an unknown key; not a relative path; a directory
        raise ConfigError(f"time zone {name!r}: {ZONE_EXPECTED}") from exc


def night_of(start: datetime, timezone: str) -> date:
    """Return the date on which a run was due.

    Args:
        start: When it was due, with a time zone.
        timezone: Time zone of the schedule.

    Raises:
        ConfigError: No time zone has this name.
    """
    return start.astimezone(zone_of(timezone)).date()


def seed_of(night: date) -> int:
    """Return the seed of a night: 20261125 for the 25th of November 2026."""
    return night.year * 10_000 + night.month * 100 + night.day


def night_of_seed(seed: int) -> date | None:
    """Return the night that has a seed, or None if the seed is not a date from 2000 to 2999."""
    year, month, day = seed // 10_000, seed // 100 % 100, seed % 100
    try:
        return date(year, month, day) if 2000 <= year < 3000 else None
    except ValueError:
        return None


def days_of(night: date, today: date) -> list[date]:
    """Return the days, in UTC, on which the run of a night may have started.

    They begin one day before the night, for any time zone, and end one day after it or, since a missed night may be
    trained at any time, today. Of a night more than `DAYS_SEARCHED` days ago, they are the last days.
    """
    count = (max(night + _DAY, today) - night).days + 2
    return [night + number * _DAY for number in range(-1, count - 1)][-DAYS_SEARCHED:]


def find_identical_run(config: RunConfig, dataset_key: str, days: Iterable[date]) -> str | None:
    """Find the newest finished run with the same data, code and settings.

    Args:
        config: The settings; `artifacts` is where to look.
        dataset_key: Key of the data; see `mnist_bp.results.dataset.CachedDataset`.
        days: The days, in UTC, on which it may have started. Other runs are not read.

    Returns:
        Its id; None if no such run exists, or if it has no promotion record yet.

    Raises:
        StoreError: The store cannot be read.
    """
    wanted = dataset_key, code_sha256(), _settings(config.record)
    store = open_store(config.artifacts)
    listed = [run for day in sorted(set(days)) for run in list_runs(store, f"{day:%Y%m%d}")]
    for run in reversed(catalog_runs(store, listed)):
        if (manifest := run.manifest) is None or PROMOTION not in run.listed.files:
            continue
        if (manifest.dataset.key, manifest.code.sha256, _settings(manifest.config)) == wanted:
            return manifest.run_id
    return None


def newest_run(store: Store, dataset: str, today: date | None = None, *, before: str | None = None) -> Manifest | None:
    """Find the newest published run of a dataset. Manifests are read from the newest on: one, if it has the dataset.

    Args:
        store: Store with the runs.
        dataset: Name of the dataset.
        today: The runs of the `DAYS_SEARCHED` days before it are searched; by default the present day in UTC.
        before: Id of a run; only older runs are searched.

    Returns:
        Its manifest; None if no run has an intact one.

    Raises:
        StoreError: The store cannot be read.
    """
    older = [run for run in _recent_runs(store, today) if before is None or run.run_id < before]
    for listed in reversed(older[-RUNS_SEARCHED:]):
        (run,) = catalog_runs(store, [listed])
        if run.manifest is not None and run.dataset == dataset:
            return run.manifest
    return None


def recent_nights(store: Store, dataset: str, today: date | None = None) -> list[Night]:
    """Find the most recent nights of a dataset. Runs with a damaged manifest are left out.

    Args:
        store: Store with the runs.
        dataset: Name of the dataset.
        today: The runs of the `DAYS_SEARCHED` days before it are searched; by default the present day in UTC.

    Returns:
        At most `NIGHTS_SHOWN` nights, in order of date.

    Raises:
        StoreError: The store cannot be read.
    """
    complete = _recent_runs(store, today)
    searched = complete[-RUNS_SEARCHED:]
    ours = [night for run in catalog_runs(store, searched) if (night := _night(run, dataset)) is not None]
    nights = [night for night in ours if night.scheduled]
    if not nights and len(searched) == len(complete):
        nights = ours
    shown = sorted(nights, key=lambda night: (night.day, night.run_id))[-NIGHTS_SHOWN:]
    return list(in_parallel(partial(_with_decision, store), shown))


def _recent_runs(store: Store, today: date | None) -> list[ListedRun]:
    """List the complete runs of the `DAYS_SEARCHED` days before a day, in order of run id."""
    today = today or datetime.now(UTC).date()
    days = [f"{today + number * _DAY:%Y%m%d}" for number in range(-DAYS_SEARCHED, 2)]
    months = sorted({day[:6] for day in days})  # few listings, each of few pages
    listed = [run for month in months for run in list_runs(store, month)]
    return [run for run in listed if run.complete and run.run_id[:8] in days]


def _night(run: CatalogedRun, dataset: str) -> Night | None:
    """Describe a run as a night, or return None for a run of another dataset or without an intact manifest."""
    if run.manifest is None or run.dataset != dataset:
        return None
    seed, final = run.manifest.config.get("seed"), run.manifest.final  # of several seeds, not that of the model
    night = night_of_seed(seed) if isinstance(seed, int) else None
    day = night or run.manifest.created.date()
    training = training_name(run.manifest.config, final.step, run.manifest.models)
    return Night(run.manifest.run_id, day, night is not None, final.step, final.accuracy, training)


def _with_decision(store: Store, night: Night) -> Night:
    """Add the decision on a night, the champion's accuracy after it, and the address of its report."""
    night = replace(night, url=url_of(store, run_key(night.run_id, REPORT)))
    try:
        promotion = read_promotion(store, night.run_id)
    except (ChecksumError, DataFormatError):
        return replace(night, decision="damaged")
    if promotion is None:
        return night
    before = promotion.figures.champion_accuracy if promotion.figures else None
    champion = night.accuracy if promotion.outcome == "promoted" else before
    return replace(night, decision=promotion.outcome, champion=champion)


def _settings(config: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return what must be equal. Of settings that are swept, a manifest has the values of the run's own model."""
    sweep = config.get("sweep")
    left_out = PLACES | (parse_sweep(sweep).keys() if isinstance(sweep, str) else set())
    return {name: value for name, value in config.items() if name not in left_out}
