"""Runs as they are published, small and quickly made, with intact manifests and files that random bytes fill."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnist_bp.data.datasets import DATASETS
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import Action, read_champion, swap_champion
from mnist_bp.results import Promotion, PromotionOutcome
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import sha256_of_bytes
from mnist_bp.storage.interface import Store

STEPS = (1_000, 2_000)


def run_id_of(number: int) -> str:
    """Make the id of the run of that number: they sort alike."""
    return f"20261123T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z-{number:08x}"


def publish(
    store: Store,
    number: int,
    dataset: str = "mnist",
    *,
    steps: Sequence[int] = STEPS,
    size: int = 200,
    manifest: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> str:
    """Put a run's files, the manifest last, and return its id.

    Args:
        store: Where to.
        number: Decides its id and its bytes.
        dataset: What it says it was trained on.
        steps: Of its checkpoints.
        size: Bytes of each file.
        manifest: Whether it is finished.
        changes: Entries of the manifest that are to be others.
    """
    run_id = run_id_of(number)
    draw = random.Random(number)
    names = [f"checkpoints/step-{step:07d}.safetensors" for step in steps]
    contents = {name: draw.randbytes(size) for name in (*names, "model.safetensors", "history.parquet", "report.html")}
    for name, content in contents.items():
        store.put(f"{RUNS}{run_id}/{name}", content, sha256_of_bytes(content))
    proofs = {name: {"sha256": sha256_of_bytes(each), "size": len(each)} for name, each in contents.items()}
    if manifest:
        content = checksummed_json.dumps({**manifest_of(run_id, dataset, steps, proofs), **(changes or {})})
        store.put(f"{RUNS}{run_id}/{MANIFEST}", content, sha256_of_bytes(content))
    return run_id


def manifest_of(run_id: str, dataset: str, steps: Sequence[int], files: dict[str, Any]) -> dict[str, Any]:
    """Say what a manifest says; the keys that readers use are those of `mnist_bp.registry.manifest.build_manifest`."""
    sources = {
        file.name: {"sha256": file.digest if file.algorithm == "sha256" else "0" * 64, "size": 1}
        for file in DATASETS[dataset].files
    }
    score = {"seed": 1, "lab_correct_of_1000": 900, "loss": 0.07, "accuracy_per_class": [0.9] * 10}
    return {
        "manifest_version": 1,
        "run_id": run_id,
        "config": {"dataset": dataset, "steps": steps[-1], "engine": "auto"},
        "dataset": {
            "name": dataset,
            "notice": None,
            "key": "0123456789abcdef",
            "train_examples": 60_000,
            "test_examples": 10_000,
            "sources": sources,
        },
        "seed": 1,
        "engine": "cpu",
        "device": "cpu",
        "certificate": {"passed": True},
        "train_seconds": 1.25,
        "resumed": [],
        "checkpoints": [
            {"file": name, "step": step, "accuracy": 0.9 + step / 100_000, **score}
            for name, step in zip(files, steps, strict=False)
        ],
        "files": files,
        "code": {"version": "0.1.0", "sha256": "0" * 64},
    }


def put_promotion(store: Store, run_id: str, dataset: str = "mnist", outcome: PromotionOutcome = "promoted") -> None:
    """Put the record of what came of a challenge beside a manifest."""
    reason, at = "it is better by 12 of 10,000 images", "2026-11-23T18:15:00+00:00"
    after = run_id if outcome == "promoted" else None
    content = checksummed_json.dumps(asdict(Promotion(run_id, dataset, outcome, reason, {}, None, after, at)))
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
    return swap_champion(store, champion.changed(action, run_id, sha256, {}))


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
