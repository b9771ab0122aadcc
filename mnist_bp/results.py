"""Results that one stage of the pipeline passes to the next: small frozen values, never tensors or open files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

CacheOutcome = Literal["hit", "miss", "rebuilt"]

Progress = Callable[[float, float | None, str], None]
"""Called while a stage runs, with the amount completed, the total (None if it is unknown) and a short note."""


@dataclass(frozen=True)
class FileDigest:
    """A file on this machine.

    Args:
        path: Its path.
        sha256: Digest of its bytes, 64 hex digits.
        size: In bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class RawDataset:
    """The four IDX files of a dataset, as downloaded.

    Args:
        name: Name of the dataset, never `auto`.
        files: Training images, training labels, test images, test labels.
        cache: `hit` if all files existed and were intact.
        notice: Why the bundled sample replaces MNIST, or None.
    """

    name: str
    files: tuple[FileDigest, ...]
    cache: CacheOutcome
    notice: str | None = None


@dataclass(frozen=True)
class CachedDataset:
    """A dataset in Parquet.

    Args:
        name: Name of the dataset.
        key: Digest of the downloaded files and the preprocessing code.
        train, test: One Parquet file for each split.
        train_examples, test_examples: Rows of each split.
        cache: `hit` if both files existed and were intact.
        rebuilt: Why an existing cache was replaced, or None.
        notice: See `RawDataset`.
    """

    name: str
    key: str
    train: FileDigest
    test: FileDigest
    train_examples: int
    test_examples: int
    cache: CacheOutcome
    rebuilt: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class CheckpointFile:
    """The weights of a run's models after a number of steps.

    Args:
        step: Steps taken.
        file: The safetensors file.
        seconds: Training time up to this checkpoint.
    """

    step: int
    file: FileDigest
    seconds: float


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that an interrupted run was resumed from.

    Args:
        step: Steps taken at this checkpoint.
        sha256: Digest of the checkpoint; None for step 0, whose weights come from the seed.
        at: Time of the resumption, in UTC, ISO 8601.
    """

    step: int
    sha256: str | None
    at: str


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training has ended.

    Args:
        run_id: Sorts by time, never reused.
        directory: Path of the run directory.
        config: The configuration that the run was started with, JSON-ready; see `RunConfig.record`.
        seeds: One for each model.
        validation_examples: Number of examples at the end of the training split that were held out.
        engine: Name of the engine.
        device: Name of the device that the engine ran on.
        certificate: The gradient check of the engine before the first step, or before the first step after the last
            resumption; see `mnist_bp.engines.certificate`.
        checkpoints: In order of step.
        seconds: Training time: shuffling and steps, without reading data or writing checkpoints.
        resumed: The checkpoints that the run was resumed from, oldest first.
    """

    run_id: str
    directory: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    validation_examples: int
    engine: str
    device: str
    certificate: dict[str, Any]
    checkpoints: tuple[CheckpointFile, ...]
    seconds: float
    resumed: tuple[ResumePoint, ...] = ()

    @property
    def steps(self) -> int:
        """Steps taken by each model."""
        return self.checkpoints[-1].step

    @property
    def steps_per_second(self) -> float:
        """Mean speed of training, counting the steps of all models."""
        return self.steps * len(self.seeds) / self.seconds


@dataclass(frozen=True)
class CheckpointScore:
    """The scores of one model after a number of steps, on the test images.

    Args:
        seed: Seed of the model.
        step: Steps taken.
        accuracy: Share of all test images that are classified correctly, in [0, 1]; pixels in [0, 1].
        lab_correct_of_1000: The lab's measure: correct among the first 1,000 test images; pixels in [0, 255].
        loss: Half the squared error, summed over classes, mean over all test images.
        accuracy_per_class: Share of each class's test images that are classified correctly.
        validation_accuracy: As `accuracy`, on the held-out training examples; None if none were held out.
    """

    seed: int
    step: int
    accuracy: float
    lab_correct_of_1000: int
    loss: float
    accuracy_per_class: tuple[float, ...]
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Mistake:
    """A test image that a model classifies wrongly.

    Args:
        index: Its row in the test split.
        label: Its true class.
        predicted: The predicted class.
        confidence: Output for the predicted class, in [0, 1].
        true_class_output: Output for the true class, in [0, 1].
    """

    index: int
    label: int
    predicted: int
    confidence: float
    true_class_output: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of all checkpoints of a run on the test images.

    Args:
        seed: Seed of the run's own model: of all, the one with the best validation accuracy after the last step.
        scores: One for each step and seed, in order of step.
        confusion: Counts for the run's own model; rows are true classes, columns are predicted classes.
        mistakes: The most confident mistakes of the run's own model, the worst first.
    """

    seed: int
    scores: tuple[CheckpointScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def checkpoints(self) -> tuple[CheckpointScore, ...]:
        """The scores of the run's own model, in order of step."""
        return tuple(score for score in self.scores if score.seed == self.seed)

    @property
    def final(self) -> CheckpointScore:
        """The score of the run's own model after the last step."""
        return self.checkpoints[-1]

    @property
    def final_scores(self) -> tuple[CheckpointScore, ...]:
        """The scores of all models after the last step."""
        return tuple(score for score in self.scores if score.step == self.scores[-1].step)


@dataclass(frozen=True)
class SeedStatistics:
    """Test accuracies of the models of all seeds of a run after the last step.

    Args:
        mean, median, minimum, maximum: In [0, 1].
        standard_deviation: Of the sample; 0 for one model.
        share_below_90_percent: Share of the models whose accuracy is below 0.90, in [0, 1].
    """

    mean: float
    median: float
    standard_deviation: float
    minimum: float
    maximum: float
    share_below_90_percent: float


@dataclass(frozen=True)
class PublishedRun:
    """A run in the store.

    Args:
        run_id: Its id.
        artifacts: URI of the prefix of its files.
        manifest: URI of its manifest, which is put last.
        manifest_sha256: Digest of the manifest, which holds the digests of all other files.
        files: Number of files, including the manifest.
        size: Their size in bytes.
        report_url: Address of its report for a browser, or None; see `Store.url`.
    """

    run_id: str
    artifacts: str
    manifest: str
    manifest_sha256: str
    files: int
    size: int
    report_url: str | None = None
