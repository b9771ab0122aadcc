"""A training run in parts: a sweep, or many seeds. A runner trains the parts; the journal records each that is done.

<data dir>/runs/<run id>/journal.jsonl
                        /scores/part-00000.safetensors         the scores of a part's models
                        /checkpoints/step-0010000.safetensors  the run's own model, once it is chosen
<store>/runs/<run id>/checkpoints/step-0010000/part-00000.safetensors   put by the part
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mnist_bp.engines.certificate_cache import certified
from mnist_bp.engines.choose import same_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.errors import ChecksumError, ConflictError, DataFormatError, DivergenceError, StoreError, counted
from mnist_bp.layout import checkpoint_path, part_name, run_directory, run_key
from mnist_bp.results.common import FileDigest, Progress
from mnist_bp.results.dataset import CachedDataset, DatasetShape
from mnist_bp.results.training import CheckpointFile, StoredParts, TrainedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.training.checkpoints import decode_checkpoint, save_checkpoint
from mnist_bp.training.journal import Journal
from mnist_bp.training.journal_state import JournalState, RecordedPart, RunStart
from mnist_bp.training.part_scores import gather_scores, load_scores, save_scores
from mnist_bp.training.parts import Part, PartContext, cut_into_parts
from mnist_bp.training.run import basis_metadata, checkpoint_metadata, resume_run, start_run
from mnist_bp.training.runners import choose_runner
from mnist_bp.training.workspace import lock_run

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

logger = logging.getLogger(__name__)

MAX_LINES: Final = 20
"""Lines of a log about parts, at most."""


def train_in_parts(
    config: RunConfig, data: CachedDataset, run_id: str, *, on_progress: Progress | None = None
) -> TrainedRun:
    """Train all models of a run in parts, and choose its own: the one with the best validation accuracy at the end.

    A run that has a journal is resumed: parts whose files are intact are not trained again.

    Args:
        config: The run's configuration; its directory is created in `data_dir`.
        data: The dataset.
        run_id: The run's id.
        on_progress: Called with the models trained, their number, and the speed.

    Raises:
        ConfigError: The batch is larger than the dataset, or the device does not exist; or the run was started with
            other settings, other data, or an engine that cannot run here.
        CertificateError: The engine's gradients are wrong; nothing was trained.
        ConflictError: The store has other bytes under the name of a part: the machines differ.
        DivergenceError: All models diverged.
        ChecksumError, DataFormatError, StoreError: A file is damaged, or cannot be read or written.
    """
    journal, parts = Journal(run_directory(config.data_dir, run_id)), cut_into_parts(config)
    logger.info(f"train       run {run_id} (if interrupted, resume with --resume {run_id})")
    with lock_run(journal.directory):
        known, done = journal.read(), dict[int, RecordedPart]()
        if known is not None:
            known.start.refuse_changes(config.record)
            known.start.refuse_other_data(data.name, data.key)
            done = _intact_parts(open_store(config.artifacts), run_id, parts, known)
            logger.info(f"train       resuming: {len(done):,} of {counted(len(parts), 'part')} trained already")
        if len(done) < len(parts):
            if known is None:
                engine = start_run(config, data, journal, len(parts))
            else:
                engine = resume_run(config, data.shape, journal, known, {})
            _train(config, data, engine, journal, parts, done, on_progress)
        return _trained_run(config, data, journal, parts, done)


def _intact_parts(store: Store, run_id: str, parts: Sequence[Part], known: JournalState) -> dict[int, RecordedPart]:
    """Return the recorded parts whose scores are intact here, and whose files the store has.

    Raises:
        ConflictError: The store has a file of a part in another size, which it would not let the part put again.
    """
    if known.damage:
        logger.warning(known.damage)
    prefix = run_key(run_id)
    stored = {entry.key.removeprefix(prefix): entry.size for entry in store.list_entries(f"{prefix}checkpoints/")}
    intact = {}
    for part in parts:
        if (recorded := known.parts.get(part.number)) is None:
            continue
        try:
            load_scores(recorded.scores, part)
        except (ChecksumError, DataFormatError, StoreError) as exc:
            logger.warning(f"part {part.number} is trained again: {exc}")
            continue
        for file in recorded.files:
            if (size := stored.get(file.path, file.size)) != file.size:
                raise ConflictError(
                    f"{store.uri(prefix + file.path)} has {size:,} bytes, and was put with {file.size:,}: another "
                    "program changed it; delete it, then continue with --resume, which trains its part again"
                )
        if lost := [file.path for file in recorded.files if file.path not in stored]:
            logger.warning(f"part {part.number} is trained again: {store.uri(prefix + lost[0])} is missing")
            continue
        intact[part.number] = recorded
    return intact


def _train(
    config: RunConfig,
    data: CachedDataset,
    engine: Engine,
    journal: Journal,
    parts: Sequence[Part],
    done: dict[int, RecordedPart],
    on_progress: Progress | None,
) -> None:
    """Train the parts that are not done, and add each to the journal and to `done`."""
    rest = [part for part in parts if part.number not in done]
    sizes = {part.number: len(part.members) for part in parts}
    total, trained = sum(sizes.values()), sum(sizes[number] for number in done)
    earlier, first = max((part.elapsed for part in done.values()), default=0.0), trained
    logger.info(
        f"train       {counted(total - trained, 'model')} in {counted(len(rest), 'part')}, runner {config.runner}"
    )
    started, nodes, logged, spent = time.perf_counter(), set[str](), 0, np.zeros(3)
    with closing(choose_runner(config.runner).run(rest, _context(config, data, engine, journal))) as results:
        for result in results:
            journal.check_exists()
            scores = save_scores(journal.scores_path(result.number), result.scores)
            seconds = time.perf_counter() - started
            files = tuple(FileDigest(file.name, file.sha256, file.size) for file in result.files)
            done[result.number] = RecordedPart(result.number, files, scores, earlier + seconds)
            journal.add_part(done[result.number])
            nodes.add(result.node)
            spent += result.seconds, result.evaluation_seconds, result.store_seconds
            trained += sizes[result.number]
            speed = f"{(trained - first) / seconds:,.1f} models/s" + (f", {len(nodes)} nodes" if len(nodes) > 1 else "")
            if on_progress is not None:
                on_progress(trained, total, speed)
            if (trained * MAX_LINES) // total > logged:
                logged = (trained * MAX_LINES) // total
                logger.info(f"train       {trained:>9,} of {counted(total, 'model')}  {speed}")
    steps, scoring, storing = spent
    logger.info(
        f"train       seconds in all parts: {steps:,.1f} of steps, {scoring:,.1f} of scores, {storing:,.1f} of files"
    )


def _context(config: RunConfig, data: CachedDataset, engine: Engine, journal: Journal) -> PartContext:
    return PartContext(
        run_id=journal.directory.name,
        artifacts=config.record["artifacts"],
        train=data.train,
        test=data.test,
        shape=data.shape,
        held_out=config.held_out(data.train_examples),
        engine=engine.name,
        device=engine.device,
        about=basis_metadata(config, data, engine.name, engine.device),
    )


def _trained_run(
    config: RunConfig,
    data: CachedDataset,
    journal: Journal,
    parts: Sequence[Part],
    done: dict[int, RecordedPart],
) -> TrainedRun:
    """Choose the run's own model, fetch its weights, and describe the run."""
    known = journal.read()
    assert known is not None
    start, recorded = known.start, [done[part.number] for part in parts]
    scores = gather_scores(parts, [each.scores for each in recorded])
    if not len(scores.remaining):
        raise DivergenceError(
            f"training diverged: none of the {counted(len(scores.seeds), 'model')} has finite weights after step "
            f"{config.steps:,}; try smaller learning rates"
        )
    if scores.diverged:
        logger.warning(f"{scores.diverged:,} of {counted(len(scores.seeds), 'model')} diverged, without an accuracy")
    own = scores.settings[scores.combination[scores.best]]
    chosen = config.with_swept(own)
    seed, elapsed = int(scores.seeds[scores.best]), max(each.elapsed for each in recorded)
    return TrainedRun(
        run_id=start.run_id,
        directory=str(journal.directory),
        config={**start.config, **own},
        seeds=start.seeds,
        validation_examples=start.validation_examples,
        engine=start.engine,
        device=start.device,
        certificate=_certificate(chosen, data.shape, known),
        checkpoints=_own_checkpoints(chosen, data, known.start, journal, parts, recorded, scores.best, elapsed),
        seconds=elapsed,
        resumed=known.resumed,
        parts=StoredParts(
            models=len(scores.seeds),
            files={file.path: file for each in recorded for file in each.files},
            scores=tuple(each.scores for each in recorded),
        ),
        seed=seed,
    )


def _certificate(chosen: RunConfig, shape: DatasetShape, known: JournalState) -> dict[str, Any]:
    """Return the certificate of the equations of the run's own model."""
    if len(chosen.variants) == 1:
        return dict(known.certificate)
    engine = same_engine(known.start.engine, known.start.device, chosen.hidden, chosen.batch_size, shape)
    return certified(engine, chosen.hidden, chosen.batch_size, chosen.recipe, shape).record


def _own_checkpoints(
    chosen: RunConfig,
    data: CachedDataset,
    start: RunStart,
    journal: Journal,
    parts: Sequence[Part],
    recorded: Sequence[RecordedPart],
    best: int,
    elapsed: float,
) -> tuple[CheckpointFile, ...]:
    """Write the weights of the run's own model, from the files of its part, to separate files."""
    store, ends = open_store(chosen.artifacts), list(accumulate(len(part.members) for part in parts))
    number = bisect_right(ends, best)
    part, files = parts[number], {file.path: file for file in recorded[number].files}
    place = best - ends[number] + len(part.members)
    points = []
    for step in part.kept_steps:
        file = files[part_name(step, part.number)]
        key = run_key(journal.directory.name, file.path)
        model = decode_checkpoint(store.get(key, file.sha256, file.size), store.uri(key))[place]
        about = checkpoint_metadata(chosen, data, start.engine, start.device, [part.members[place].seed], step)
        own = save_checkpoint(checkpoint_path(journal.directory, step), [model], about)
        points.append(CheckpointFile(step, own, elapsed * step / chosen.steps))
    return tuple(points)
