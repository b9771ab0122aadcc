"""What travels from one step of the pipeline to the next: small frozen values, never tensors or open files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CacheOutcome = Literal["hit", "miss"]

BiasGradient = Literal["mean", "sum"]
"""How the gradients of the biases are reduced over the batch; see `mnist_bp.backprop`."""


@dataclass(frozen=True)
class StoredFile:
    """One file, with what proves it is intact.

    Args:
        path: Where it is on this machine.
        sha256: Its digest, 64 hex digits.
        bytes: Its size.
    """

    path: str
    sha256: str
    bytes: int


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
    files: tuple[StoredFile, ...]
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
    train: StoredFile
    test: StoredFile
    train_examples: int
    test_examples: int
    cache: CacheOutcome
    rebuilt: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class CheckpointFile:
    """The weights after a number of steps.

    Args:
        step: Steps taken.
        file: The safetensors file.
        seconds: Training time so far.
    """

    step: int
    file: StoredFile
    seconds: float


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training has ended.

    Args:
        run_id: Sorts by time, never reused.
        directory: Where the run is being made.
        engine: Which engine computed the steps.
        device: Where it ran.
        checkpoints: In order of step; the last is the model.
        seconds: Training time: shuffling and steps, without reading data or writing checkpoints.
    """

    run_id: str
    directory: str
    engine: str
    device: str
    checkpoints: tuple[CheckpointFile, ...]
    seconds: float

    @property
    def steps(self) -> int:
        """Steps taken in all."""
        return self.checkpoints[-1].step

    @property
    def steps_per_second(self) -> float:
        """Mean speed of the training steps."""
        return self.steps / self.seconds


@dataclass(frozen=True)
class CheckpointScore:
    """How one checkpoint does on the test images.

    Args:
        step: Steps taken.
        accuracy: Share of all test images that are classified correctly, in [0, 1]; pixels in [0, 1].
        lab_correct_of_1000: The lab's own figure: correct among the first 1,000 test images, pixels in [0, 255].
        loss: Half the squared error, summed over classes, mean over all test images.
        accuracy_per_class: Share of each class's test images that are classified correctly.
    """

    step: int
    accuracy: float
    lab_correct_of_1000: int
    loss: float
    accuracy_per_class: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """How all checkpoints of a run do on the test images.

    Args:
        checkpoints: In order of step.
        confusion: For the last checkpoint: rows are true classes, columns predicted ones, entries are counts.
    """

    checkpoints: tuple[CheckpointScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def final(self) -> CheckpointScore:
        """The score of the run's model."""
        return self.checkpoints[-1]


@dataclass(frozen=True)
class PublishedRun:
    """A run that readers can see.

    Args:
        run_id: The run.
        artifacts: URI of everything published for it.
        manifest: URI of its manifest, the commit marker.
        files: Files published, manifest included.
        bytes: Their size.
    """

    run_id: str
    artifacts: str
    manifest: str
    files: int
    bytes: int
