"""One training run: started, or resumed from its newest checkpoint; each checkpoint is written as it is reached.

<data dir>/runs/<run id>/journal.jsonl
/checkpoints/step-0001000.safetensors
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.certificate_cache import certified
from mnist_bp.engines.certificate_record import Certificate
from mnist_bp.engines.choose import choose_engine, same_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError, DivergenceError, StoreError
from mnist_bp.layout import checkpoint_path, new_run_id, run_directory
from mnist_bp.model.parameters import Model
from mnist_bp.model.steps import checkpoint_steps
from mnist_bp.results.common import Progress
from mnist_bp.results.dataset import CachedDataset, DatasetShape
from mnist_bp.results.training import CheckpointFile, ResumePoint, TrainedRun
from mnist_bp.storage.reading import read_verified
from mnist_bp.training.checkpoints import load_checkpoint, save_checkpoint
from mnist_bp.training.interim_accuracy import InterimAccuracy
from mnist_bp.training.journal import Journal
from mnist_bp.training.journal_state import CheckpointsByStep, JournalState, RunStart
from mnist_bp.training.loop import example_orders, initial_models, train
from mnist_bp.training.shifts import check_shift
from mnist_bp.training.workspace import lock_run

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

logger = logging.getLogger(__name__)


def train_run(
    config: RunConfig, data: CachedDataset, run_id: str | None = None, *, on_progress: Progress | None = None
) -> TrainedRun:
    """Train the model of every seed and write a checkpoint of all at every `checkpoint_every` steps and at the end.

    A run that has a journal is resumed from its newest checkpoint, up to which all are intact. It ends in the same bits
    as a run that was never interrupted. If all its checkpoints are intact, nothing is trained.

    Args:
        config: The run's configuration; its directory is created in `data_dir`.
        data: The dataset. Its test images are not read.
        run_id: The run's id; a new one if None.
        on_progress: Called with the steps taken by each model, the steps of the run, and the mean speed so far.

    Raises:
        ConfigError: The batch is larger than the dataset, or the device does not exist; or the run was started with
            other settings, other data, or an engine that cannot run here.
        CertificateError: The engine's gradients are wrong; nothing was trained.
        DivergenceError: A weight is no longer finite; the checkpoints so far are kept.
        ChecksumError, DataFormatError: The data is damaged, or the journal's first line.
        StoreError: A file cannot be read or written, or another process is working on the run.
    """
    run_id = run_id or new_run_id()
    journal = Journal(run_directory(config.data_dir, run_id))
    logger.info(f"train       run {run_id} (if interrupted, resume with --resume {run_id})")
    with lock_run(journal.directory):
        known, checkpoints = journal.read(), CheckpointsByStep()
        if known is not None:
            known.start.refuse_changes(config.record)
            known.start.refuse_other_data(data.name, data.key)
            checkpoints = _intact_checkpoints(config, known)
            if config.steps in checkpoints:
                logger.info(f"train       all {config.steps:,} steps are trained already")
            else:
                logger.info(f"train       resuming at step {max(checkpoints, default=0):,} of {config.steps:,}")
        if config.steps not in checkpoints:
            try:
                _train(config, data, journal, known, checkpoints, on_progress)
            except DivergenceError as exc:
                kept = f"the checkpoints up to step {max(checkpoints, default=0):,} are kept in {journal.directory}"
                raise DivergenceError(f"{exc}; {kept if checkpoints else 'no checkpoint came before it'}") from exc
        return _trained_run(journal, checkpoints)


def checkpoint_metadata(
    config: RunConfig, data: CachedDataset, engine: str, device: str, seeds: Sequence[int], step: int
) -> dict[str, Any]:
    """Describe the contents of a file of weights, and all that is needed to compute them again."""
    return {
        **basis_metadata(config, data, engine, device),
        "config": config.training_record,
        "seeds": list(seeds),
        "step": step,
    }


def basis_metadata(config: RunConfig, data: CachedDataset, engine: str, device: str) -> dict[str, Any]:
    """Describe what all files of weights of a run have in common: the training examples and the engine."""
    return {
        "dataset": {"name": data.name, "key": data.key, "train_examples": data.train_examples},
        "engine": {"name": engine, "device": device},
        "held_out": config.held_out(data.train_examples),
    }


def start_run(config: RunConfig, data: CachedDataset, journal: Journal, parts: int | None = None) -> Engine:
    """Choose and certify the engine of a new run, and begin its journal."""
    if any(each.activation == "relu" and each.initial == "normal" for each in config.variants):
        logger.warning(
            "activation relu with initial weights from N(0, 1): outputs are saturated at 0 or 1 from the first step, "
            "so that the network hardly learns; set initial to scaled"
        )
    engine, notice = choose_engine(config.engine, *config.grid.largest, data.shape)
    certificate = _certify(config, data.shape, engine, notice)
    journal.begin(
        RunStart(
            run_id=journal.directory.name,
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
            parts=parts,
        )
    )
    return engine


def _intact_checkpoints(config: RunConfig, known: JournalState) -> CheckpointsByStep:
    """Verify the files of a journal's checkpoints, oldest first, up to the first that is missing or damaged."""
    if known.damage:
        logger.warning(known.damage)
    intact: CheckpointsByStep = {}
    for step in checkpoint_steps(config.checkpoint_every, config.steps):
        if (point := known.checkpoints.get(step)) is None:
            break
        try:
            hint = "it and those after it are trained again"
            read_verified(Path(point.file.path), point.file.sha256, hint, size=point.file.size)
        except (ChecksumError, DataFormatError, StoreError) as exc:
            logger.warning(f"the checkpoint of step {step:,} cannot be used: {exc}")
            break
        intact[step] = point
    return intact


def resume_run(
    config: RunConfig, shape: DatasetShape, journal: Journal, known: JournalState, checkpoints: CheckpointsByStep
) -> Engine:
    """Find the engine that a run was started with, certify it, and record where the run is resumed from."""
    start = known.start
    try:
        engine = same_engine(start.engine, start.device, *config.grid.largest[:2], shape)
    except ConfigError as exc:
        raise ConfigError(
            f"run {start.run_id} was started with the {start.engine} engine on {start.device}, and another engine "
            "computes other bits; resume it on a machine where that engine runs, or start a new run. "
            f"Cause: {exc}"
        ) from exc
    certificate = _certify(config, shape, engine, start.engine_notice)
    step = max(checkpoints, default=0)
    sha256 = checkpoints[step].file.sha256 if step else None
    point = ResumePoint(step, sha256, datetime.now(UTC).isoformat(timespec="seconds"))
    journal.resume(known, point, certificate.record)
    return engine


def _certify(config: RunConfig, shape: DatasetShape, engine: Engine, notice: str | None) -> Certificate:
    check_shift(shape, config.grid.largest.shift)
    again = config.certify == "always"
    certificate, *_ = [
        certified(engine, each.hidden, each.batch_size, each.recipe, shape, again=again) for each in config.variants
    ]
    if notice:
        logger.warning(notice)
    logger.info(f"train       {certificate.summary}")
    return certificate


def _train(
    config: RunConfig,
    data: CachedDataset,
    journal: Journal,
    known: JournalState | None,
    checkpoints: CheckpointsByStep,
    on_progress: Progress | None,
) -> None:
    """Train from the last checkpoint to the run's last step; write each new checkpoint and add it to `checkpoints`."""
    with ThreadPoolExecutor(1) as reader:  # it reads while the engine is imported and certified
        split = reader.submit(load_split, data.train)
        if known is None:
            engine = start_run(config, data, journal)
        else:
            engine = resume_run(config, data.shape, journal, known, checkpoints)
    images, labels = split.result()
    del split
    held_out = config.held_out(data.train_examples)
    examples = len(images) - held_out
    shape, models = data.shape, len(config.seed_list)
    interim = InterimAccuracy(engine, images, labels, held_out, models, config.activation, shape.classes)
    resident = engine.load(images[:examples], labels[:examples], shape.classes)
    orders = example_orders(config, images[:examples], config.seed_list, shape.width)
    del images  # the engine has its own copy

    def speed(step: int, seconds: float) -> str:
        return f"{len(orders) * step / seconds:,.0f} steps/s"

    def report(step: int, seconds: float) -> None:
        if on_progress is not None:
            on_progress(step, config.steps, speed(step, seconds))

    start = max(checkpoints, default=0)
    seconds = checkpoints[start].seconds if start else 0.0
    initial = _models_at(config, shape, checkpoints, start)
    for reached in train(config, resident, initial, orders, report, start=start, seconds=seconds):
        journal.check_exists()
        about = checkpoint_metadata(config, data, engine.name, engine.device, config.seed_list, reached.step)
        file = save_checkpoint(checkpoint_path(journal.directory, reached.step), reached.models, about)
        checkpoints[reached.step] = point = CheckpointFile(reached.step, file, reached.seconds)
        journal.add_checkpoint(point)
        taken = f"step {reached.step:>9,}  {speed(reached.step, reached.seconds):>17}"
        logger.info(f"train       {taken}  {interim.describe(reached.models)}")


def _models_at(config: RunConfig, shape: DatasetShape, checkpoints: CheckpointsByStep, step: int) -> list[Model]:
    """Read the models of a checkpoint, or draw those of step 0 from their seeds."""
    if step:
        return load_checkpoint(checkpoints[step].file)
    return initial_models(config, config.seed_list, shape)


def _trained_run(journal: Journal, checkpoints: CheckpointsByStep) -> TrainedRun:
    """Describe a run that has all its checkpoints."""
    known = journal.read()
    assert known is not None
    start, points = known.start, tuple(checkpoints.values())
    return TrainedRun(
        run_id=start.run_id,
        directory=str(journal.directory),
        config=start.config,
        seeds=start.seeds,
        validation_examples=start.validation_examples,
        engine=start.engine,
        device=start.device,
        certificate=dict(known.certificate),
        checkpoints=points,
        seconds=points[-1].seconds,
        resumed=known.resumed,
    )
