"""Published runs for tests: made up from random bytes, or trained on a few images.

publish(store, 1, steps=(1_000, 2_000))             # a complete run, of which only the bytes are random
publish(store, 2, manifest=False)                    # an incomplete one
publish(store, 3, changes={"dataset": {"key": ""}})  # one whose manifest has other entries, valid or not
promote(store, run_id_of(1))                         # makes it champion
train_and_evaluate(raw, data, data_dir, seeds="1..3").publish(str(artifacts))
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.documents import encoding
from mnist_bp.documents.champion import Action, EntryReference, GateFigures, LogEntry, PromotionOutcome, PromotionRecord
from mnist_bp.documents.manifest import CheckpointEntry, CodeEntry, DatasetEntry, FileEntry, Manifest, ParquetFiles
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import append, read_history, read_log
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.evaluation import Evaluation, SeedStatistics
from mnist_bp.results.publication import PublishedRun
from mnist_bp.results.training import TrainedRun
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.interface import Store
from mnist_bp.storage.reading import sha256_of_bytes

STEPS: Final = (1_000, 2_000)
KEY: Final = "0123456789abcdef"
"""Key of the dataset in the manifests of runs that are made up."""


# ---------------------------------------------------------------------------------------------------------------------
# runs that are made up


def run_id_of(number: int) -> str:
    """Return the id of a run by its number. Ids sort like their numbers."""
    return f"20261123T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z-{number:08x}"


def publish(
    store: Store,
    run: int | str,
    dataset: str = "mnist",
    *,
    steps: Sequence[int] = STEPS,
    size: int = 200,
    contents: Mapping[str, bytes] | None = None,
    manifest: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> str:
    """Put the files of a run, the manifest last, and return its id.

    Args:
        store: Store to put them into.
        run: Id of the run, or a number that its id and its bytes are made from.
        dataset: Name of the dataset in its manifest.
        steps: Steps of its checkpoints.
        size: Size of each file in bytes.
        contents: Its files by name; random bytes by default.
        manifest: Whether the run is complete.
        changes: Entries of the manifest to replace; objects are merged.
    """
    run_id = run if isinstance(run, str) else run_id_of(run)
    if contents is None:
        draw = random.Random(run)
        names = [*map(checkpoint_name, steps), "model.safetensors", "history.parquet", "report.html"]
        contents = {name: draw.randbytes(size) for name in names}
    for name, content in contents.items():
        store.put(f"{RUNS}{run_id}/{name}", content, sha256_of_bytes(content))
    if manifest:
        document = manifest_of(run_id, dataset, steps, contents).model_dump(mode="json")
        content = checksummed_json.dumps(merged(document, changes or {}))
        store.put(f"{RUNS}{run_id}/{MANIFEST}", content, sha256_of_bytes(content))
    return run_id


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON document with some entries replaced. Objects are merged."""
    return {**document} | {
        name: merged(document[name], value)
        if isinstance(value, dict) and isinstance(document.get(name), dict)
        else value
        for name, value in changes.items()
    }


def checkpoint_name(step: int) -> str:
    return f"checkpoints/step-{step:07d}.safetensors"


def manifest_of(run_id: str, dataset: str, steps: Sequence[int], contents: Mapping[str, bytes]) -> Manifest:
    """Make a manifest of a run that was never trained."""
    sources = {
        file.name: FileEntry(sha256=file.digest if file.algorithm == "sha256" else "0" * 64, size=1)
        for file in DATASETS[dataset].files
    }
    parquet = FileEntry(sha256="0" * 64, size=1)
    return Manifest(
        run_id=run_id,
        created=datetime(2026, 11, 23, tzinfo=UTC),
        config={"dataset": dataset, "steps": steps[-1], "engine": "auto", "seed": 1},
        dataset=DatasetEntry(
            name=dataset,
            notice=None,
            key=KEY,
            train_examples=60_000,
            test_examples=10_000,
            sources=sources,
            parquet=ParquetFiles(train=parquet, test=parquet),
        ),
        seed=1,
        seeds=(1,),
        seed_statistics=SeedStatistics(0.9, 0.9, 0.0, 0.9, 0.9, 0.0),
        validation_examples=0,
        engine="cpu",
        device="cpu",
        certificate={"passed": True, "at": "2026-11-28T17:00:02+00:00", "reused": True},
        train_seconds=1.25,
        resumed=(),
        steps_per_second=8_000.0,
        checkpoints=tuple(checkpoint(step, 0.9 + step / 100_000) for step in steps),
        confusion=(),
        files={name: FileEntry(sha256=sha256_of_bytes(each), size=len(each)) for name, each in contents.items()},
        code=CodeEntry(version="0.1.0", sha256="0" * 64),
        environment={},
    )


def checkpoint(step: int, accuracy: float, seed: int = 1) -> CheckpointEntry:
    """Make the manifest's entry of a checkpoint."""
    return CheckpointEntry(
        seed=seed,
        step=step,
        accuracy=accuracy,
        lab_correct_of_1000=900,
        loss=0.07,
        file=checkpoint_name(step),
        train_seconds=1.25,
        accuracy_per_class=(0.9,) * 10,
        validation_accuracy=None,
    )


def put_promotion(
    store: Store,
    run_id: str,
    dataset: str = "mnist",
    outcome: PromotionOutcome = "promoted",
    entry: EntryReference | None = None,
    champion_accuracy: float | None = None,
) -> None:
    """Put the promotion record of a run, with the figures of a comparison if a champion has an accuracy."""
    figures = None if champion_accuracy is None else _figures_of(champion_accuracy)
    record = PromotionRecord(
        run_id=run_id,
        dataset=dataset,
        outcome=outcome,
        reason="it is better by 12 of 10,000 images",
        figures=figures,
        champion_before=None,
        champion_after=run_id if outcome == "promoted" else None,
        log_entry=entry,
        at="2026-11-23T18:15:00+00:00",
    )
    content = encoding.dumps(record)
    store.put(f"{RUNS}{run_id}/{PROMOTION}", content, sha256_of_bytes(content))


def _figures_of(champion_accuracy: float) -> GateFigures:
    """Make the figures of a comparison in which the challenger was not better."""
    return GateFigures(
        test_images=10_000,
        champion_accuracy=champion_accuracy,
        challenger_accuracy=champion_accuracy,
        gain=0.0,
        champion_alone_right=0,
        challenger_alone_right=0,
        p_value=1.0,
        challenger_per_class=(champion_accuracy,) * 10,
        significance=0.05,
        minimum_gain=0.0,
        class_floor=0.75,
    )


def promote(store: Store, run_id: str, dataset: str = "mnist", action: Action = "promote") -> ChampionLog | None:
    """Make a run champion, without a record, unless it is being removed or another process changes the log first.

    Returns:
        The log after it, or None.
    """
    log = read_log(store, dataset)
    _, sha256 = read_manifest(store, run_id)
    if run_id in log.pending_deletion:
        return None
    return append(store, log.with_champion(action, run_id, sha256, "for a test"))


def changes(store: Store, dataset: str = "mnist") -> list[LogEntry]:
    """Read the whole log of a champion, which checks it, and return the entries that made a run champion."""
    entries = read_history(store, read_log(store, dataset)).values()
    return [entry for entry, _ in entries if entry.run_id is not None and entry.action not in ("keep", "alias")]


def champions(store: Store, dataset: str = "mnist") -> list[str]:
    """List the runs that became champion, the first one first."""
    return [str(entry.run_id) for entry in changes(store, dataset)]


# ---------------------------------------------------------------------------------------------------------------------
# runs that are trained


@dataclass(frozen=True)
class EvaluatedRun:
    """A run that was trained and evaluated, and can be published."""

    config: RunConfig
    raw: RawDataset
    data: CachedDataset
    trained: TrainedRun
    evaluation: Evaluation

    def publish(self, artifacts: str) -> PublishedRun:
        from mnist_bp.registry.publish import publish_run

        config = self.config.model_copy(update={"artifacts": artifacts})
        return publish_run(config, self.raw, self.data, self.trained, self.evaluation)

    def copied_to(self, data_dir: Path) -> EvaluatedRun:
        """Copy the run to another data directory, where its files can be damaged."""
        directory = data_dir / "runs" / self.trained.run_id
        shutil.copytree(self.trained.directory, directory)
        checkpoints = tuple(
            replace(point, file=replace(point.file, path=str(directory / checkpoint_name(point.step))))
            for point in self.trained.checkpoints
        )
        return replace(self, trained=replace(self.trained, directory=str(directory), checkpoints=checkpoints))


def train_and_evaluate(raw: RawDataset, data: CachedDataset, data_dir: Path, **settings: Any) -> EvaluatedRun:
    """Train a run on the bundled sample, 300 steps with three checkpoints by default, and evaluate it."""
    from mnist_bp.training.evaluation import evaluate_run  # torch, which racing processes do not need
    from mnist_bp.training.run import train_run

    small = {"dataset": "mnist-sample", "steps": 300, "checkpoint_every": 100, "engine": "cpu"}
    config = RunConfig.model_validate({**small, "data_dir": str(data_dir), **settings})
    trained = train_run(config, data)
    return EvaluatedRun(config, raw, data, trained, evaluate_run(data, trained))


# ---------------------------------------------------------------------------------------------------------------------
# run directories


def make_directory(data_dir: Path, run_id: str, hours: float = 0, files: int = 2) -> Path:
    """Make the directory of a run whose files are some hours old."""
    directory = data_dir / "runs" / run_id
    for number in range(files):
        path = directory / checkpoint_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    age(directory, hours)
    return directory


def age(directory: Path, hours: float) -> None:
    """Make a directory, and all that it contains, some hours older."""
    for path in (*directory.rglob("*"), directory):
        about = path.stat()
        os.utime(path, (about.st_atime - 3600 * hours, about.st_mtime - 3600 * hours))
