"""A run while it is being made: its id, its directory, and the checkpoints as they come.

<data dir>/runs/<run id>/checkpoints/step-0001000.safetensors
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mnist_bp.checkpoints import save_checkpoint
from mnist_bp.engines import choose_engine
from mnist_bp.errors import DivergenceError
from mnist_bp.preprocess import load_split
from mnist_bp.records import CachedDataset, CheckpointFile, TrainedRun
from mnist_bp.training import train

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"


def new_run_id() -> str:
    """Make an id that sorts by time and is never reused, such as 20261123T181500Z-1a2b3c4d."""
    return f"{datetime.now(UTC).strftime(_TIME_FORMAT)}-{secrets.token_hex(4)}"


def created_at(run_id: str) -> datetime:
    """Read the time of its making, to the second, out of a run id."""
    return datetime.strptime(run_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


def train_run(
    config: RunConfig,
    data: CachedDataset,
    *,
    on_progress: Callable[[int, float], None] | None = None,
    on_checkpoint: Callable[[CheckpointFile], None] | None = None,
) -> TrainedRun:
    """Train, writing every checkpoint as it comes.

    Args:
        config: The run; its directory is made in `data_dir`.
        data: What to train on; test images are not touched.
        on_progress: Told steps taken and training seconds.
        on_checkpoint: Told about every checkpoint once it is on disk.

    Raises:
        ConfigError: The batch is larger than the dataset, or there is no such device.
        DivergenceError: A weight is no longer finite; the checkpoints so far are kept, and named.
        ChecksumError, DataFormatError, StoreError: The data cannot be read or a checkpoint not be written.
    """
    engine = choose_engine(config.engine)
    run_id = new_run_id()
    directory = (Path(config.data_dir) / "runs" / run_id).absolute()
    about = {
        "config": config.training_record,
        "dataset": {"name": data.name, "key": data.key},
        "engine": {"name": engine.name, "device": engine.device},
    }
    images, labels = load_split(data.train)
    files: list[CheckpointFile] = []
    try:
        for checkpoint in train(config, engine, images, labels, on_progress=on_progress):
            path = directory / "checkpoints" / f"step-{checkpoint.step:07d}.safetensors"
            saved = save_checkpoint(path, checkpoint.parameters, {**about, "step": checkpoint.step})
            files.append(CheckpointFile(checkpoint.step, saved, checkpoint.seconds))
            if on_checkpoint is not None:
                on_checkpoint(files[-1])
    except DivergenceError as exc:
        kept = (
            f"{len(files)} checkpoints before it are kept in {directory}" if files else "no checkpoint came before it"
        )
        raise DivergenceError(f"{exc}; {kept}") from exc
    return TrainedRun(run_id, str(directory), engine.name, engine.device, tuple(files), files[-1].seconds)
