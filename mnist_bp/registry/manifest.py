"""The manifest of a run, which describes it as a whole, and its history, a table with one row per checkpoint."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.json import ParseOptions, read_json

from mnist_bp import __version__
from mnist_bp.documents.manifest import CheckpointEntry, CodeEntry, DatasetEntry, FileEntry, Manifest, ParquetFiles
from mnist_bp.layout import created_at
from mnist_bp.model.recipe import recipe_of
from mnist_bp.model.sweep import SWEEPABLE
from mnist_bp.registry.code import code_sha256
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.evaluation import Evaluation
from mnist_bp.results.training import TrainedRun
from mnist_bp.training.evaluation import seed_statistics

HISTORY: Final = pa.schema(
    {
        "run_id": pa.string(),
        "created": pa.timestamp("us", "UTC"),
        "dataset": pa.string(),
        "engine": pa.string(),
        "recipe": pa.string(),
        "train_seconds": pa.float64(),
        "seed": pa.int64(),
        "step": pa.int64(),
        "accuracy": pa.float64(),
        "lab_correct_of_1000": pa.int64(),
        "loss": pa.float64(),
        "accuracy_per_class": pa.list_(pa.float64()),
        "validation_accuracy": pa.float64(),
        "learning_rate": pa.float64(),
        "hidden": pa.int64(),
        "batch_size": pa.int64(),
        "initial": pa.string(),
        "loss_function": pa.string(),
        "activation": pa.string(),
        "schedule": pa.string(),
        "shift": pa.int64(),
        "bias_gradient": pa.string(),
    }
)
"""Columns of `history.parquet`, with the same types in every run, so that the files of many runs form one table. The
scores of a model that diverged are null."""

_SETTING_COLUMNS: Final = {"loss": "loss_function"}
"""Columns of settings that a score has the name of."""

_ROWS_AT_ONCE: Final = 10_000
"""Rows that are in memory as text while they are encoded: 4 MB."""


def history_parquet(trained: TrainedRun, dataset: str, evaluation: Evaluation) -> bytes:
    """Encode a run's history: one row per checkpoint and model, each with the run id."""
    sink = BytesIO()
    # not Table.from_pylist, which imports pandas to check whether its argument is a data frame
    options = ParseOptions(explicit_schema=HISTORY, unexpected_field_behavior="error")
    with pq.ParquetWriter(sink, HISTORY, compression="zstd") as file:
        rows = _history_rows(trained, dataset, evaluation)
        while few := list(islice(rows, _ROWS_AT_ONCE)):
            lines = BytesIO("".join(f"{json.dumps(row)}\n" for row in few).encode())
            file.write_table(read_json(lines, parse_options=options))
    return sink.getvalue()


def _history_rows(trained: TrainedRun, dataset: str, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    points = {point.step: point.seconds for point in trained.checkpoints}
    about = {
        "run_id": trained.run_id,
        "created": created_at(trained.run_id).isoformat(),
        "dataset": dataset,
        "engine": trained.engine,
    }

    def row(step: int, settings: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
        config = {**trained.config, **settings}
        seconds = points.get(step, trained.seconds * step / trained.steps)
        swept = {_SETTING_COLUMNS.get(name, name): config.get(name) for name in SWEEPABLE}
        return {**about, "recipe": recipe_of(config).label, "train_seconds": seconds, **scores, **swept}

    if (models := evaluation.models) is None:
        for score in evaluation.scores:
            yield row(score.step, {}, vars(score))
        return
    for place, step in enumerate(models.steps):
        for model, seed in enumerate(models.seeds.tolist()):
            diverged = np.isnan(models.accuracy[place, model])
            scores = {"seed": seed, "step": step} if diverged else vars(models.score(place, model))
            yield row(step, models.settings[models.combination[model]], scores)


def build_manifest(
    artifacts: str,
    raw: RawDataset,
    data: CachedDataset,
    trained: TrainedRun,
    evaluation: Evaluation,
    files: dict[str, FileDigest],
) -> Manifest:
    """Build the manifest of a run from the results of its stages.

    Args:
        artifacts: Address that the run is published to.
        raw: The downloaded files.
        data: The dataset after preprocessing.
        trained: The checkpoints.
        evaluation: Their scores.
        files: The published files, by name below the run's prefix.
    """
    return Manifest(
        run_id=trained.run_id,
        created=created_at(trained.run_id),
        config={**trained.config, "artifacts": artifacts},
        dataset=DatasetEntry(
            name=data.name,
            notice=data.notice,
            key=data.key,
            train_examples=data.train_examples,
            test_examples=data.test_examples,
            sources={_source_name(file): _entry(file) for file in raw.files},
            parquet=ParquetFiles(train=_entry(data.train), test=_entry(data.test)),
            shape=data.shape,
            skipped=data.skipped,
            test_split=data.test_split,
        ),
        seed=evaluation.seed,
        seeds=trained.seeds,
        seed_statistics=seed_statistics(evaluation),
        validation_examples=trained.validation_examples,
        engine=trained.engine,
        device=trained.device,
        certificate=trained.certificate,
        train_seconds=trained.seconds,
        resumed=trained.resumed,
        steps_per_second=trained.steps_per_second,
        checkpoints=tuple(
            CheckpointEntry(
                file=f"checkpoints/{Path(point.file.path).name}", train_seconds=point.seconds, **asdict(score)
            )
            for point, score in zip(trained.checkpoints, evaluation.checkpoints, strict=True)
        ),
        confusion=evaluation.confusion,
        files=file_entries(files),
        code=CodeEntry(version=__version__, sha256=code_sha256()),
        environment={
            "python": platform.python_version(),
            "platform": platform.platform(),
            "torch": version("torch"),
            "numpy": np.__version__,
            **({"numba": version("numba")} if trained.engine == "cpu" else {}),
            "pyarrow": pa.__version__,
        },
    )


def file_entries(files: Mapping[str, FileDigest]) -> dict[str, FileEntry]:
    """Describe files by digest and size, without their paths on this machine."""
    return {name: _entry(file) for name, file in files.items()}


def _source_name(file: FileDigest) -> str:
    """Return the name of a source, with the characters that the name of a published file may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", Path(file.path).name).lstrip(".")[:100] or "source"


def _entry(file: FileDigest) -> FileEntry:
    return FileEntry(sha256=file.sha256, size=file.size)
