"""What travels from one step of the pipeline to the next: small frozen values, never tensors or open files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

CacheOutcome = Literal["hit", "miss"]

Progress = Callable[[float, float | None, str], None]
"""Called as a stage proceeds, with the amount completed, the total (None where unknown) and a short note."""


@dataclass(frozen=True)
class FileDigest:
    """One file, with what proves it is intact.

    Args:
        path: Where it is on this machine.
        sha256: Its digest, 64 hex digits.
        size: Its size.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class RawDataset:
    """The four IDX files of a dataset, as downloaded.

    Args:
        name: Which dataset it really is (never `auto`).
        files: Training images, training labels, test images, test labels.
        cache: `hit` if all were there and intact.
        notice: Why the bundled sample stands in for MNIST, or None.
    """

    name: str
    files: tuple[FileDigest, ...]
    cache: CacheOutcome
    notice: str | None = None


@dataclass(frozen=True)
class CachedDataset:
    """A dataset in Parquet.

    Args:
        name: Which dataset.
        key: Digest of what the cache was made from.
        train, test: One Parquet file for each split.
        train_examples, test_examples: Rows of each.
        cache: `hit` if it was there and intact.
        rebuilt: What was wrong with the cache that had to be replaced, or None.
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
        seconds: Training time so far.
    """

    step: int
    file: FileDigest
    seconds: float


@dataclass(frozen=True)
class ResumePoint:
    """What a run that was broken off was continued from.

    Args:
        step: Steps taken by then.
        sha256: Digest of that checkpoint; None for step 0, whose weights come from the seed.
        at: When it was continued, in UTC, ISO 8601.
    """

    step: int
    sha256: str | None
    at: str


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training has ended.

    Args:
        run_id: Sorts by time, never reused.
        directory: Where the run is being made.
        config: What it was started with, whoever continued it, as JSON has it; see `RunConfig.record`.
        seeds: One for each model that was trained.
        validation_examples: How many examples at the end of the training split were held out.
        engine: Which engine computed the steps.
        device: Where it ran.
        certificate: What proved the engine right before the first step, or the first after the run was last resumed;
            see `mnist_bp.engines.certificate`.
        checkpoints: In order of step.
        seconds: Training time: shuffling and steps, without reading data or writing checkpoints.
        notice: Why the engine is not the one that would have been chosen, or None.
        resumed: What the run was continued from, oldest first; empty if it was never broken off.
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
    notice: str | None = None
    resumed: tuple[ResumePoint, ...] = ()

    @property
    def steps(self) -> int:
        """Steps taken by each model."""
        return self.checkpoints[-1].step

    @property
    def steps_per_second(self) -> float:
        """Mean speed of the training steps, those of all models together."""
        return self.steps * len(self.seeds) / self.seconds


@dataclass(frozen=True)
class CheckpointScore:
    """How one model does after a number of steps, on the test images.

    Args:
        seed: Which model.
        step: Steps taken.
        accuracy: Share of all test images that are classified correctly, in [0, 1]; pixels in [0, 1].
        lab_correct_of_1000: The lab's own figure: correct among the first 1,000 test images, pixels in [0, 255].
        loss: Half the squared error, summed over classes, mean over all test images.
        accuracy_per_class: Share of each class's test images that are classified correctly.
        validation_accuracy: As `accuracy`, on the held-out training examples; None if there are none.
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
        label: What it is.
        predicted: What the model takes it for.
        confidence: The output for the predicted class, in [0, 1].
        true_class_output: The output for the true class, in [0, 1].
    """

    index: int
    label: int
    predicted: int
    confidence: float
    true_class_output: float


@dataclass(frozen=True)
class Evaluation:
    """How all checkpoints of a run do on the test images.

    Args:
        seed: The run's model: of those trained, the one with the best validation accuracy after the last step.
        scores: One for each step and seed, in order of step.
        confusion: For the run's model: rows are true classes, columns predicted ones, entries are counts.
        mistakes: Of the run's model: those it is surest of, the worst first.
    """

    seed: int
    scores: tuple[CheckpointScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def checkpoints(self) -> tuple[CheckpointScore, ...]:
        """The scores of the run's model, in order of step."""
        return tuple(score for score in self.scores if score.seed == self.seed)

    @property
    def final(self) -> CheckpointScore:
        """The score of the run's model after the last step."""
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
    """A run that readers can see.

    Args:
        run_id: The run.
        artifacts: URI of everything published for it.
        manifest: URI of its manifest, the commit marker.
        manifest_sha256: Its digest; it holds those of all other files.
        files: Files published, manifest included.
        size: Their size.
    """

    run_id: str
    artifacts: str
    manifest: str
    manifest_sha256: str
    files: int
    size: int
