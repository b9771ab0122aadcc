"""A run while it is being made: started, or continued where it was broken off; its checkpoints as they come.

<data dir>/runs/<run id>/journal.jsonl
                        /checkpoints/step-0001000.safetensors
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.certificate import Certificate, certify
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.parallel import on_every_core
from mnist_bp.errors import DivergenceError
from mnist_bp.layout import checkpoint_path, new_run_id, run_directory
from mnist_bp.model.parameters import CLASSES, PIXELS, Model, initial_parameters
from mnist_bp.results import CachedDataset, CheckpointFile, Progress, TrainedRun
from mnist_bp.training.checkpoints import load_checkpoint, save_checkpoint
from mnist_bp.training.continuing import Pieces, Points, engine_of, intact_points, missing_pieces, resume_point
from mnist_bp.training.journal import Journal, RunStart
from mnist_bp.training.loop import Checkpoint, ExampleOrder, checkpoint_steps, train
from mnist_bp.training.workspace import lock_run

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

logger = logging.getLogger(__name__)

MAX_CERTIFIED_SIZE: Final = 128
"""Hidden units, and examples in a batch, that a run's certificate goes up to: more cost time and tell no more."""


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
    config: RunConfig, data: CachedDataset, run_id: str | None = None, *, on_progress: Progress | None = None
) -> TrainedRun:
    """Train every seed's model, writing all checkpoints as they come; or go on where the run was broken off.

    A run that has a journal keeps what is intact, and ends in the bits in which it would have ended had it never been
    broken off; if nothing of it is missing, nothing is trained.

    Args:
        config: The run; its directory is made in `data_dir`.
        data: What to train on; test images are not touched.
        run_id: Its id; a new one if None.
        on_progress: Called with the steps taken by each model, the steps of the run, and the speed so far.

    Raises:
        ConfigError: The batch is larger than the dataset, or there is no such device; or the run was started with
            other settings, other data, or an engine that cannot run here.
        CertificateError: The engine's gradients are wrong; nothing was trained.
        DivergenceError: A weight is no longer finite; the checkpoints so far are kept, and named.
        ChecksumError, DataFormatError: The data is damaged, or the journal's first line.
        StoreError: Something cannot be read or written, or another process is working on the run.
    """
    run_id = run_id or new_run_id()
    directory = run_directory(config.data_dir, run_id)
    journal, points, before = Journal(directory), Points(), Points()
    logger.info(f"train       run {run_id} (if interrupted, resume with --resume {run_id})")
    with lock_run(directory):
        known = journal.read()
        if known is not None:
            known.start.refuse_changes(config.record)
            known.start.refuse_other_data(data.name, data.key)
            for damage in known.damage:
                logger.warning(damage)
            before, points = known.checkpoints, intact_points(known, config)
        if missing := missing_pieces(config, points):
            if known is None:
                engine, notice = choose_engine(config.engine, config.hidden, config.batch_size)
            else:
                engine, notice = engine_of(known.start), known.start.engine_notice
            certificate = _certified(config, engine)
            if notice:
                logger.warning(notice)
            logger.info(f"train       {certificate.summary}")
            if known is None:
                journal.begin(_start(config, data, run_id, certificate, notice))
            else:
                resumed = resume_point(missing, points)
                journal.add_resumption(resumed, certificate.record)
                logger.info(f"train       resumed from step {resumed.step:,}")
            with _naming_what_is_kept(points, directory):
                for checkpoint in _train(config, data, engine, points, missing, on_progress):
                    journal.check_there()
                    point = _save(config, data, engine, directory, checkpoint)
                    points[point.step] = point = _as_before(point, before.get(point.step))
                    journal.add_checkpoint(point)
                    logger.info(f"train       step {point.step:>9,}  {_speed(config, point.step, point.seconds):>17}")
        return _record(config, journal, points)


def _speed(config: RunConfig, step: int, seconds: float) -> str:
    return f"{len(config.seed_list) * step / seconds:,.0f} steps/s"


def _certified(config: RunConfig, engine: Engine) -> Certificate:
    certificate = certify(
        engine,
        hidden=min(config.hidden, MAX_CERTIFIED_SIZE),
        batch_size=min(config.batch_size, MAX_CERTIFIED_SIZE),
        bias_gradient=config.bias_gradient,
    )
    certificate.check()
    return certificate


def _start(
    config: RunConfig, data: CachedDataset, run_id: str, certificate: Certificate, notice: str | None
) -> RunStart:
    return RunStart(
        run_id=run_id,
        config=config.record,
        dataset=data.name,
        dataset_key=data.key,
        dataset_notice=data.notice,
        seeds=config.seed_list,
        validation_examples=config.held_out(data.train_examples),
        engine=certificate.engine,
        device=certificate.device,
        engine_notice=notice,
        certificate=certificate.record,
    )


def _train(
    config: RunConfig,
    data: CachedDataset,
    engine: Engine,
    points: Points,
    missing: Pieces,
    on_progress: Progress | None,
) -> Iterator[Checkpoint]:
    """Train to every checkpoint that is missing. Before the next is asked for, `points` is to have the last."""
    images, labels = load_split(data.train)
    examples = len(images) - config.held_out(data.train_examples)
    resident = engine.load(images[:examples], labels[:examples])
    del images  # the engine has its own
    orders = [ExampleOrder(seed, examples, config.batch_size) for seed in config.seed_list]

    def report(step: int, seconds: float) -> None:
        if on_progress is not None:
            on_progress(step, config.steps, _speed(config, step, seconds))

    models: list[Model] = []
    at: int | None = None
    for begin, step in missing:
        if begin == 0:
            models = on_every_core(partial(_initial_model, config.hidden), config.seed_list)
        elif begin != at:
            models = load_checkpoint(points[begin].file)
        seconds = points[begin].seconds if begin else 0.0
        checkpoint = next(train(config, resident, models, orders, report, start=begin, seconds=seconds))
        models, at = checkpoint.models, step
        yield checkpoint


def _initial_model(hidden: int, seed: int) -> Model:
    return initial_parameters(seed, PIXELS, hidden, CLASSES)


@contextmanager
def _naming_what_is_kept(points: Points, directory: Path) -> Iterator[None]:
    """Say of a diverged run what is left of it."""
    try:
        yield
    except DivergenceError as exc:
        kept = f"{len(points)} checkpoints before it are kept in {directory}"
        raise DivergenceError(f"{exc}; {kept if points else 'no checkpoint came before it'}") from exc


def _save(
    config: RunConfig, data: CachedDataset, engine: Engine, directory: Path, checkpoint: Checkpoint
) -> CheckpointFile:
    about = checkpoint_metadata(config, data, engine.name, engine.device, config.seed_list, checkpoint.step)
    file = save_checkpoint(checkpoint_path(directory, checkpoint.step), checkpoint.models, about)
    return CheckpointFile(checkpoint.step, file, checkpoint.seconds)


def _as_before(point: CheckpointFile, before: CheckpointFile | None) -> CheckpointFile:
    """Give a checkpoint that had to be made again the time it took at first: a run's history stays as it was."""
    if before is None:
        return point
    if before.file.sha256 != point.file.sha256:
        logger.warning(
            f"the checkpoint of step {point.step:,} was made again and is another: SHA-256 "
            f"{before.file.sha256} before, {point.file.sha256} now; was it made on another machine?"
        )
        return point
    return replace(point, seconds=before.seconds)


def _record(config: RunConfig, journal: Journal, points: Points) -> TrainedRun:
    """Describe a run of which nothing is missing, whoever made it."""
    known = journal.read()
    assert known is not None
    checkpoints = tuple(points[step] for step in checkpoint_steps(config))
    return TrainedRun(
        run_id=known.start.run_id,
        directory=str(journal.path.parent),
        config=known.start.config,
        seeds=known.start.seeds,
        validation_examples=known.start.validation_examples,
        engine=known.start.engine,
        device=known.start.device,
        certificate=dict(known.certificate),
        checkpoints=checkpoints,
        seconds=checkpoints[-1].seconds,
        notice=known.start.engine_notice,
        resumed=known.resumed,
    )
