"""Publish: a finished run becomes visible to readers, whole or not at all.

<artifacts>/runs/<run id>/checkpoints/step-0001000.safetensors ...
                         /model.safetensors    the run's model after the last step
                         /history.parquet      one row per checkpoint and seed
                         /accuracy.png
                         /manifest.json        put last: a run with a manifest is complete
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_bp import __version__
from mnist_bp.checkpoints import load_checkpoint, save_checkpoint
from mnist_bp.config import RunConfig
from mnist_bp.files import read_verified, sha256_of_bytes, write_bytes
from mnist_bp.plots import accuracy_png
from mnist_bp.population import population_accuracy
from mnist_bp.records import CachedDataset, Evaluation, PublishedRun, RawDataset, StoredFile, TrainedRun
from mnist_bp.runs import checkpoint_metadata, created_at
from mnist_bp.sealed import seal
from mnist_bp.store import open_store

MANIFEST: Final = "manifest.json"
MANIFEST_VERSION: Final = 1

HISTORY: Final = pa.schema(
    {
        "run_id": pa.string(),
        "created": pa.timestamp("us", "UTC"),
        "dataset": pa.string(),
        "engine": pa.string(),
        "train_seconds": pa.float64(),
        "seed": pa.int64(),
        "step": pa.int64(),
        "accuracy": pa.float64(),
        "lab_correct_of_1000": pa.int64(),
        "loss": pa.float64(),
        "accuracy_per_class": pa.list_(pa.float64()),
        "validation_accuracy": pa.float64(),
    }
)
"""Columns of `history.parquet`: of one type in every run, so that the files of many runs are one table."""


def publish_run(
    config: RunConfig, raw: RawDataset, data: CachedDataset, trained: TrainedRun, evaluation: Evaluation
) -> PublishedRun:
    """Complete a run's directory and put all of it where readers look, the manifest last. May be repeated.

    Args:
        config: The run; `artifacts` says where to.
        raw: What was downloaded.
        data: What it was trained on.
        trained: The checkpoints.
        evaluation: Their scores.

    Raises:
        ChecksumError: A checkpoint on disk is not the one that was written.
        StoreError: The place refused a file.
    """
    directory = Path(trained.directory)
    last = trained.checkpoints[-1]
    model = load_checkpoint(last.file)[trained.seeds.index(evaluation.seed)]
    about = checkpoint_metadata(config, data, trained.engine, trained.device, [evaluation.seed], last.step)
    contents = {
        "history.parquet": history_parquet(trained, data.name, evaluation),
        "accuracy.png": accuracy_png(evaluation, f"{data.name}, {trained.engine} engine, seed {evaluation.seed}"),
    }
    files = {f"checkpoints/{Path(point.file.path).name}": point.file for point in trained.checkpoints}
    files["model.safetensors"] = save_checkpoint(directory / "model.safetensors", [model], about)
    for name, content in contents.items():
        path = directory / name
        files[name] = StoredFile(str(path), write_bytes(path, content), len(content))
    for file in files.values():
        read_verified(Path(file.path), file.sha256)
    manifest = directory / MANIFEST
    content = seal(_manifest(config, raw, data, trained, evaluation, files))
    write_bytes(manifest, content)

    store = open_store(config.artifacts)
    prefix = f"runs/{trained.run_id}"
    for name, file in files.items():
        store.put(f"{prefix}/{name}", Path(file.path), file.sha256)
    store.put(f"{prefix}/{MANIFEST}", manifest, sha256_of_bytes(content))
    return PublishedRun(
        run_id=trained.run_id,
        artifacts=store.uri(prefix),
        manifest=store.uri(f"{prefix}/{MANIFEST}"),
        files=len(files) + 1,
        bytes=sum(file.bytes for file in files.values()) + len(content),
    )


def history_parquet(trained: TrainedRun, dataset: str, evaluation: Evaluation) -> bytes:
    """Encode a run's history: one row per checkpoint and seed, with the run named in every row."""
    seconds = {point.step: point.seconds for point in trained.checkpoints}
    rows = [
        {
            "run_id": trained.run_id,
            "created": created_at(trained.run_id),
            "dataset": dataset,
            "engine": trained.engine,
            "train_seconds": seconds[score.step],
            **asdict(score),
        }
        for score in evaluation.scores
    ]
    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=HISTORY), sink, compression="zstd")
    return sink.getvalue()


def code_sha256() -> str:
    """Digest the library's own source as it stands on disk, so that a manifest says which code made it."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _manifest(
    config: RunConfig,
    raw: RawDataset,
    data: CachedDataset,
    trained: TrainedRun,
    evaluation: Evaluation,
    files: dict[str, StoredFile],
) -> dict[str, Any]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "run_id": trained.run_id,
        "created": created_at(trained.run_id).isoformat(),
        "config": config.model_dump(mode="json"),
        "dataset": {
            "name": data.name,
            "notice": data.notice,
            "key": data.key,
            "train_examples": data.train_examples,
            "test_examples": data.test_examples,
            "sources": {Path(file.path).name: _proof(file) for file in raw.files},
            "parquet": {"train": _proof(data.train), "test": _proof(data.test)},
        },
        "seed": evaluation.seed,
        "population": {"seeds": trained.seeds, "accuracy": population_accuracy(evaluation)},
        "validation_examples": trained.validation_examples,
        "engine": trained.engine,
        "device": trained.device,
        "certificate": trained.certificate,
        "resumed": [asdict(point) for point in trained.resumed],
        "train_seconds": trained.seconds,
        "steps_per_second": trained.steps_per_second,
        "checkpoints": [
            {"file": f"checkpoints/{Path(point.file.path).name}", "train_seconds": point.seconds, **asdict(score)}
            for point, score in zip(trained.checkpoints, evaluation.checkpoints, strict=True)
        ],
        "confusion": evaluation.confusion,
        "files": {name: _proof(file) for name, file in files.items()},
        "code": {"version": __version__, "sha256": code_sha256()},
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "torch": version("torch"),
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
        },
    }


def _proof(file: StoredFile) -> dict[str, str | int]:
    return {"sha256": file.sha256, "bytes": file.bytes}
