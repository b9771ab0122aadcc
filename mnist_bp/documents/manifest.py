"""The manifest of a published run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from mnist_bp.documents.encoding import Document
from mnist_bp.documents.fields import DatasetKey, RunId, Share, Timestamp
from mnist_bp.model.sweep import count_models, parse_sweep
from mnist_bp.results.dataset import MAX_CLASSES, MNIST_SHAPE, DatasetShape, SplitRule
from mnist_bp.results.evaluation import SeedStatistics
from mnist_bp.results.training import ResumePoint
from mnist_bp.storage.schema import Count, FileName, FrozenModel, Seconds, Sha256, Size


class FileEntry(FrozenModel):
    """Digest and size (in bytes) of a file."""

    sha256: Sha256
    size: Size


class ParquetFiles(FrozenModel):
    """The two splits of a dataset after preprocessing."""

    train: FileEntry
    test: FileEntry


def _sensible(shape: DatasetShape) -> DatasetShape:
    if min(shape.height, shape.width) < 1 or not 2 <= shape.classes <= MAX_CLASSES:
        raise ValueError(f"a height and a width of at least 1, and the names of 2 to {MAX_CLASSES} classes")
    return shape


Shape = Annotated[DatasetShape, AfterValidator(_sensible)]


class DatasetEntry(FrozenModel):
    """The dataset that a run was trained on.

    Args:
        name: Its name, never `auto`.
        notice: Why the bundled sample replaces MNIST, or None.
        key: Digest of what its Parquet files were made from; see `mnist_bp.results.dataset.CachedDataset`.
        train_examples, test_examples: Rows of each split.
        sources: The downloaded files, by name.
        parquet: The preprocessed files.
        shape: Size of the images, and the names of the classes; written where they are not MNIST's.
        skipped, test_split: See `mnist_bp.results.dataset.CachedDataset`; written for images of the user's own alone.
    """

    name: DatasetKey
    notice: str | None
    key: str
    train_examples: Count
    test_examples: Count
    sources: dict[FileName, FileEntry]
    parquet: ParquetFiles
    shape: Shape = Field(default=MNIST_SHAPE, exclude_if=lambda shape: shape == MNIST_SHAPE)
    skipped: Count = Field(default=0, exclude_if=lambda count: count == 0)
    test_split: SplitRule | None = Field(default=None, exclude_if=lambda rule: rule is None)


class Score(FrozenModel):
    """The scores of one model at one checkpoint; see `mnist_bp.results.evaluation.CheckpointScore`."""

    seed: Count
    step: Count
    accuracy: Share
    lab_correct_of_1000: Count | None
    loss: float


class CheckpointEntry(Score):
    """A checkpoint of the run's own model.

    Args:
        file: Name of the safetensors file below the run's prefix.
        train_seconds: Training time up to this checkpoint.
        accuracy_per_class, validation_accuracy: See `mnist_bp.results.evaluation.CheckpointScore`.
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
        engine, device, certificate, train_seconds, resumed, steps_per_second: See
            `mnist_bp.results.training.TrainedRun`.
        checkpoints: Those of the run's own model, in order of step.
        confusion: See `mnist_bp.results.evaluation.Evaluation`.
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

    @property
    def sweep(self) -> dict[str, list[str]]:
        """The values of each setting that was swept; empty without a sweep."""
        text = self.config.get("sweep")
        return parse_sweep(text) if isinstance(text, str) else {}

    @property
    def models(self) -> int:
        """Number of models that the run's own is the best of."""
        return count_models(self.sweep, len(self.seeds))
