"""Names of files and keys: where a run is on this machine, and under which keys it is published."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

RUNS: Final = "runs/"
MANIFEST: Final = "manifest.json"
PROMOTION: Final = "promotion.json"
"""How a run did against the champion; see `mnist_bp.registry.promotion_record`."""
RUN_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
"""What `new_run_id` makes."""

_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"


def new_run_id() -> str:
    """Make an id that sorts by time and is never reused, such as 20261123T181500Z-1a2b3c4d."""
    return f"{datetime.now(UTC).strftime(_TIME_FORMAT)}-{secrets.token_hex(4)}"


def created_at(run_id: str) -> datetime:
    """Read the time of its making, to the second, out of a run id."""
    return datetime.strptime(run_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


def run_directory(data_dir: str | Path, run_id: str) -> Path:
    """Name the directory in which a run is made, absolutely."""
    return (Path(data_dir) / "runs" / run_id).absolute()


def checkpoint_path(directory: Path, step: int) -> Path:
    """Name the file of the weights after a number of steps."""
    return directory / "checkpoints" / f"step-{step:07d}.safetensors"
