"""A run while it is being made: its id, its directory, and the checkpoints as they come.

<data dir>/runs/<run id>/checkpoints/step-0001000.safetensors
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mnist_bp.certificate import certify
from mnist_bp.checkpoints import save_checkpoint
from mnist_bp.datasets import CLASSES, PIXELS
from mnist_bp.engines import choose_engine
from mnist_bp.errors import DivergenceError
from mnist_bp.network import Model, initial_parameters
from mnist_bp.population import on_every_core
from mnist_bp.preprocess import load_split
from mnist_bp.records import CachedDataset, CheckpointFile, TrainedRun
from mnist_bp.training import ExampleOrder, train

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

MOST_CERTIFIED: Final = 128
"""Hidden units, and examples in a batch, that a run's certificate goes up to: more cost time and tell no more."""

_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"


def new_run_id() -> str:
    """Make an id that sorts by time and is never reused, such as 20261123T181500Z-1a2b3c4d."""
    return f"{datetime.now(UTC).strftime(_TIME_FORMAT)}-{secrets.token_hex(4)}"


def created_at(run_id: str) -> datetime:
    """Read the time of its making, to the second, out of a run id."""
    return datetime.strptime(run_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


def checkpoint_metadata(
    config: RunConfig, data: CachedDataset, engine: str, device: str, seeds: Sequence[int], step: int
) -> dict[str, Any]:
    """Describe what a file of weights holds and how to make it again."""
    return {
        "config": config.training_record,
        "dataset": {"name": data.name, "key": data.key, "train_examples": data.train_examples},
        "engine": {"name": engine, "device": device},
        "held_out": config.held_out(data.train_examples),
        "seeds": list(seeds),
        "step": step,
    }


def train_run(
    config: RunConfig,
    data: CachedDataset,
    *,
    on_certified: Callable[[str, str | None], None] | None = None,
    on_progress: Callable[[int, float], None] | None = None,
    on_checkpoint: Callable[[CheckpointFile], None] | None = None,
) -> TrainedRun:
    """Train every seed's model, writing all checkpoints as they come.

    Args:
        config: The run; its directory is made in `data_dir`.
        data: What to train on; test images are not touched.
        on_certified: Told, before the first step, what the engine's certificate says, and why it is not the engine
            that would have been chosen, or None.
        on_progress: Told steps taken and training seconds.
        on_checkpoint: Told about every checkpoint once it is on disk.

    Raises:
        ConfigError: The batch is larger than the dataset, or there is no such device.
        CertificateError: The engine's gradients are wrong; nothing was trained.
        DivergenceError: A weight is no longer finite; the checkpoints so far are kept, and named.
        ChecksumError, DataFormatError, StoreError: The data cannot be read or a checkpoint not be written.
    """
    engine, notice = choose_engine(config.engine, config.hidden, config.batch_size)
    held_out, seeds = config.held_out(data.train_examples), config.population
    certificate = certify(
        engine,
        hidden=min(config.hidden, MOST_CERTIFIED),
        batch_size=min(config.batch_size, MOST_CERTIFIED),
        bias_gradient=config.bias_gradient,
    )
    certificate.check()
    if on_certified is not None:
        on_certified(certificate.summary, notice)
    run_id = new_run_id()
    directory = (Path(config.data_dir) / "runs" / run_id).absolute()
    images, labels = load_split(data.train)
    examples = len(images) - held_out
    resident = engine.load(images[:examples], labels[:examples])
    del images  # the engine has its own
    models: list[Model] = on_every_core(lambda seed: initial_parameters(seed, PIXELS, config.hidden, CLASSES), seeds)
    orders = [ExampleOrder(seed, examples, config.batch_size) for seed in seeds]
    files: list[CheckpointFile] = []
    try:
        for checkpoint in train(config, resident, models, orders, on_progress):
            path = directory / "checkpoints" / f"step-{checkpoint.step:07d}.safetensors"
            about = checkpoint_metadata(config, data, engine.name, engine.device, seeds, checkpoint.step)
            saved = save_checkpoint(path, checkpoint.models, about)
            files.append(CheckpointFile(checkpoint.step, saved, checkpoint.seconds))
            if on_checkpoint is not None:
                on_checkpoint(files[-1])
    except DivergenceError as exc:
        kept = (
            f"{len(files)} checkpoints before it are kept in {directory}" if files else "no checkpoint came before it"
        )
        raise DivergenceError(f"{exc}; {kept}") from exc
    return TrainedRun(
        run_id=run_id,
        directory=str(directory),
        seeds=seeds,
        validation_examples=held_out,
        engine=engine.name,
        device=engine.device,
        certificate=certificate.record,
        checkpoints=tuple(files),
        seconds=files[-1].seconds,
        notice=notice,
    )
