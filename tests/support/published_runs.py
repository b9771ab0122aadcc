"""Runs as they are published, small and quickly made, with intact manifests and files that random bytes fill."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mnist_bp import documents
from mnist_bp.data.datasets import DATASETS
from mnist_bp.documents import (
    Action,
    CheckpointEntry,
    CodeEntry,
    DatasetEntry,
    FileEntry,
    Manifest,
    ParquetFiles,
    PromotionOutcome,
    PromotionRecord,
)
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import read_champion, swap_champion
from mnist_bp.results import SeedStatistics
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import sha256_of_bytes
from mnist_bp.storage.interface import Store

STEPS: Final = (1_000, 2_000)
KEY: Final = "0123456789abcdef"
"""Of the dataset that runs say they were trained on."""


def run_id_of(number: int) -> str:
    """Make the id of the run of that number: they sort alike."""
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
    """Put a run's files, the manifest last, and return its id.

    Args:
        store: Where to.
        run: Its id, or a number that decides its id and its bytes.
        dataset: The dataset that it says it was trained on.
        steps: Steps of its checkpoints.
        size: Bytes in each file.
        contents: Its files; random bytes if None.
        manifest: Whether the run is complete.
        changes: Replaces entries of the manifest, nested ones too.
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
    """Return a document with some entries replaced; an object is merged into an object."""
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
        certificate={"passed": True},
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


def put_promotion(store: Store, run_id: str, dataset: str = "mnist", outcome: PromotionOutcome = "promoted") -> None:
    """Put the record of what came of a challenge beside a manifest."""
    record = PromotionRecord(
        run_id=run_id,
        dataset=dataset,
        outcome=outcome,
        reason="it is better by 12 of 10,000 images",
        champion_before=None,
        champion_after=run_id if outcome == "promoted" else None,
        at="2026-11-23T18:15:00+00:00",
    )
    content = documents.dumps(record)
    store.put(f"{RUNS}{run_id}/{PROMOTION}", content, sha256_of_bytes(content))


def promote(store: Store, run_id: str, dataset: str = "mnist", action: Action = "promote") -> bool:
    """Make a run champion by the rules: not one that is being removed, and not if another was faster.

    Returns:
        Whether it became champion.
    """
    champion = read_champion(store, dataset)
    _, sha256 = read_manifest(store, run_id)
    if run_id in champion.pending_deletion:
        return False
    return swap_champion(store, champion.changed(action, run_id, sha256, "for a test"))


def make_directory(data_dir: Path, run_id: str, hours: float = 0, files: int = 2) -> Path:
    """Make the directory of a run whose files were written some hours ago."""
    directory = data_dir / "runs" / run_id
    for number in range(files):
        path = directory / "checkpoints" / f"step-{number:07d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    age(directory, hours)
    return directory


def age(directory: Path, hours: float) -> None:
    """Make everything below a directory look as if written some hours ago."""
    for path in (*directory.rglob("*"), directory):
        about = path.stat()
        os.utime(path, (about.st_atime - 3600 * hours, about.st_mtime - 3600 * hours))
