"""Names of files and keys: the id of a run, its directory on this machine, and the keys of a published run."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from mnist_bp.errors import ConfigError, StoreError

RUNS: Final = "runs/"
CHAMPION: Final = "champion/"
"""Prefixes of keys: of the runs, and of the logs of champions."""
MANIFEST: Final = "manifest.json"
MODEL: Final = "model.safetensors"
"""Weights of a run's own model after the last step."""
ONNX_MODEL: Final = "model.onnx"
"""The same model as an ONNX graph; only if the package onnx is installed; see `mnist_bp.registry.onnx_model`."""
REPORT: Final = "report.html"
"""The run as a page for a browser; see `mnist_bp.report.page`."""
PROMOTION: Final = "promotion.json"
"""The decision on a run against the champion; see `mnist_bp.registry.promotion_record`."""
RUN_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
"""Ids that `new_run_id` returns."""
RUN_ID_START: Final = re.compile(r"\d{1,8}|\d{8}T\d{0,6}|\d{8}T\d{6}Z(-[0-9a-f]{0,7})?")
"""What such an id can begin with."""
MIN_START: Final = 6
"""Characters of the start of an id that stands for it: a year and a month."""
MAX_NAMED: Final = 4
"""Ids that a message names."""
LATEST: Final = "latest"
"""Stands for the newest run."""
ALIAS: Final = r"[a-z][a-z0-9-]{0,63}"
"""Pattern of an alias, a further name of a run; see `mnist_bp.registry.aliases`."""
DATASET: Final = r"[a-z0-9][a-z0-9-]{0,63}"
"""Pattern of the name of a dataset, which is a part of keys."""

_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"


def new_run_id() -> str:
    """Return an id that sorts by time and is never reused, such as 20261123T181500Z-1a2b3c4d."""
    return f"{datetime.now(UTC).strftime(_TIME_FORMAT)}-{secrets.token_hex(4)}"


def created_at(run_id: str) -> datetime:
    """Return the time at which a run id was made, to the second."""
    return datetime.strptime(run_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


def match_run_id(start: str, local: Iterable[str], listed: Iterable[str], where: str) -> str:
    """Return the only id that has a start.

    Args:
        start: The start of an id.
        local: Ids of runs on this machine.
        listed: Ids in order, of which no more are read than a message names.
        where: Where the runs are, for the message.

    Raises:
        ConfigError: The start is too short, or several ids have it; the message names them.
        StoreError: No id has it.
    """
    if len(start) < MIN_START:
        raise ConfigError(f"run {start}: expected an id, or at least {MIN_START} characters of its start")
    few = islice((run_id for run_id in listed if run_id.startswith(start)), MAX_NAMED + 1)
    found = sorted({*few, *(run_id for run_id in local if run_id.startswith(start))})
    if not found:
        raise StoreError(f"{where}: no run has an id that begins with {start}; see mnist-bp runs")
    if len(found) > 1:
        named = ", ".join(found[:MAX_NAMED]) + (", ..." if len(found) > MAX_NAMED else "")
        raise ConfigError(f"run {start}: several ids begin with it, expected one: {named}; give more characters")
    return found[0]


def earliest_run_id(time: datetime) -> str:
    """Return the start of the ids that are made at a time; ids made earlier sort before it."""
    return time.astimezone(UTC).strftime(_TIME_FORMAT)


def run_key(run_id: str, name: str = "") -> str:
    """Return the key of a published run's file, or the prefix of all of them."""
    return f"{RUNS}{run_id}/{name}"


def run_directory(data_dir: str | Path, run_id: str) -> Path:
    """Return the absolute path of a run's directory on this machine."""
    return (Path(data_dir) / "runs" / run_id).absolute()


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return the path of the weights after a number of steps."""
    return directory / "checkpoints" / f"step-{step:07d}.safetensors"


def part_name(step: int, number: int) -> str:
    """Return the name of the weights of a part after a number of steps, below the run's prefix."""
    return f"checkpoints/step-{step:07d}/part-{number:05d}.safetensors"
