"""Names of files and keys: the directory of a run on this machine, and the keys of a published run."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

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

_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"


def new_run_id() -> str:
    """Return an id that sorts by time and is never reused, such as 20261123T181500Z-1a2b3c4d."""
    return f"{datetime.now(UTC).strftime(_TIME_FORMAT)}-{secrets.token_hex(4)}"


def created_at(run_id: str) -> datetime:
    """Return the time at which a run id was made, to the second."""
    return datetime.strptime(run_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


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
