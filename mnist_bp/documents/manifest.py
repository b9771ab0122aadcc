"""The manifest of a published run."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from mnist_bp.documents.encoding import Document
from mnist_bp.documents.fields import DatasetKey, RunId, Share, Timestamp
from mnist_bp.results import ResumePoint, SeedStatistics
from mnist_bp.storage.schema import Count, FileName, FrozenModel, Seconds, Sha256, Size


class FileEntry(FrozenModel):
    """Digest and size (in bytes) of a file."""

    sha256: Sha256
    size: Size


class ParquetFiles(FrozenModel):
    """The two splits of a dataset after preprocessing."""

    train: FileEntry
    test: FileEntry


class DatasetEntry(FrozenModel):
    """The dataset that a run was trained on.

    Args:
        name: Its name, never `auto`.
        notice: Why the bundled sample replaces MNIST, or None.
        key: Digest of what its Parquet files were made from; see `mnist_bp.results.CachedDataset`.
        train_examples, test_examples: Rows of each split.
        sources: The downloaded files, by name.
        parquet: The preprocessed files.
    """

    name: DatasetKey
    notice: str | None
    key: str
    train_examples: Count
    test_examples: Count
    sources: dict[FileName, FileEntry]
    parquet: ParquetFiles


class Score(FrozenModel):
    """The scores of one model at one checkpoint; see `mnist_bp.results.CheckpointScore`."""

    seed: Count
    step: Count
    accuracy: Share
    lab_correct_of_1000: Count
    loss: float


class CheckpointEntry(Score):
    """A checkpoint of the run's own model.

    Args:
        file: Name of the safetensors file below the run's prefix.
        train_seconds: Training time up to this checkpoint.
        accuracy_per_class, validation_accuracy: See `mnist_bp.results.CheckpointScore`.
    """

    file: FileName
    train_seconds: Seconds
    accuracy_per_class: tuple[Share, ...]
    validation_accuracy: Share | None


class CodeEntry(FrozenModel):
    """Version of the package, and digest of its source files; see `mnist_bp.registry.code.code_sha256`."""

    version: str
    sha256: Sha256


class Manifest(Document):
    """A published run: how it was made, how good it is, and the digest of every file.

    Args:
        created: Start of the run, in UTC.
        config: The run's `RunConfig.record`.
        seed: The run's own model: of all `seeds`, the one with the best validation accuracy.
        seed_statistics: Test accuracies of the models of all seeds.
        validation_examples: Number of training examples that were held out.
        engine, device, certificate, train_seconds, resumed, steps_per_second: See `mnist_bp.results.TrainedRun`.
        checkpoints: Those of the run's own model, in order of step.
        confusion: See `mnist_bp.results.Evaluation`.
        files: Every published file except the manifest and promotion.json, by name below the run's prefix.
        environment: Versions of Python, the operating system and the libraries.
    """

    model_config = ConfigDict(title="manifest")

    manifest_version: Literal[2] = 2
    run_id: RunId
    created: Timestamp
    config: dict[str, JsonValue]
    dataset: DatasetEntry
    seed: Count
    seeds: tuple[Count, ...] = Field(min_length=1)
    seed_statistics: SeedStatistics
    validation_examples: Count
    engine: str
    device: str
    certificate: dict[str, JsonValue]
    train_seconds: Seconds
    resumed: tuple[ResumePoint, ...]
    steps_per_second: float
    checkpoints: tuple[CheckpointEntry, ...] = Field(min_length=1)
    confusion: tuple[tuple[Count, ...], ...]
    files: dict[FileName, FileEntry]
    code: CodeEntry
    environment: dict[str, str]

    @property
    def final(self) -> CheckpointEntry:
        """The checkpoint after the last step."""
        return self.checkpoints[-1]
