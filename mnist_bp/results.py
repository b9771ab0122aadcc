"""Results that one stage of the pipeline passes to the next: small frozen values, never tensors or open files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:  # commands that train nothing start without NumPy
    import numpy as np
    import numpy.typing as npt

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
class DatasetShape:
    """The size of a dataset's images, and what they show.

    Args:
        height, width: Of every image, in pixels.
        class_names: One for each label, in the order of the labels; at least two.
    """

    height: int
    width: int
    class_names: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """D, the number of pixels of an image."""
        return self.height * self.width

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def like_mnist(self) -> bool:
        """Whether size and classes are MNIST's."""
        return self == MNIST_SHAPE

    def has_lab_figure(self, test_images: int) -> bool:
        """Return whether the lab's figure is computed for a dataset like this with so many test images."""
        return self.like_mnist and test_images >= LAB_EXAMPLES


MAX_CLASSES: Final = 256
"""Classes of a dataset: a label is one byte."""

LAB_EXAMPLES: Final = 1_000
"""Source: the lab's evaluation loop, which scores the first 1,000 test images alone."""

MNIST_SHAPE: Final = DatasetShape(28, 28, tuple(map(str, range(10))))
"""The shape of MNIST, and of the datasets made like it."""


OwnKind = Literal["images", "idx", "parquet"]
"""Where images of the user's own come from: folders of pictures, IDX files, or Parquet files."""


@dataclass(frozen=True)
class OwnSource:
    """A place of the user's own images; see `mnist_bp.data.own`.

    Args:
        kind: What is found there.
        place: An absolute path, or s3://bucket/prefix.
        size: Width and height to convert pictures to, in pixels; None if all have one size.
        skip_unreadable: Whether pictures that cannot be read are left out, and counted.
    """

    kind: OwnKind
    place: str
    size: tuple[int, int] | None = None
    skip_unreadable: bool = False


@dataclass(frozen=True)
class SplitRule:
    """How test images were chosen where a dataset of the user's own has none.

    Args:
        one_in: Of each class, one image in so many, at least one.
        seed: Of the choice; the same for every run, so that runs are compared on the same images.
    """

    one_in: int
    seed: int


@dataclass(frozen=True)
class RawDataset:
    """The files of a dataset: the four IDX files as downloaded, or those of the user's own images.

    Args:
        name: Name of the dataset, never `auto`.
        files: Training images, training labels, test images, test labels; or the files of `own`, of which many
            count as one, with a digest over the names and digests of all.
        cache: `hit` if all files existed and were intact.
        notice: Why the bundled sample replaces MNIST, or None.
        own: Where images of the user's own are; None for a dataset that is downloaded.
    """

    name: str
    files: tuple[FileDigest, ...]
    cache: CacheOutcome
    notice: str | None = None
    own: OwnSource | None = None


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
        shape: Size of the images, and the classes.
        skipped: Number of pictures of the user's own that could not be read and were left out.
        test_split: How the test images were chosen; None where the dataset has test images.
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
    shape: DatasetShape = MNIST_SHAPE
    skipped: int = 0
    test_split: SplitRule | None = None


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
class StoredParts:
    """The parts of a run, whose files are in the store already; see `mnist_bp.training.parts`.

    Args:
        models: Number of models of all parts.
        files: The files in the store, by name below the run's prefix, which is also their path here.
        scores: The file of scores of each part, on this machine.
    """

    models: int
    files: Mapping[str, FileDigest]
    scores: tuple[FileDigest, ...]


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training has ended.

    Args:
        run_id: Sorts by time, never reused.
        directory: Path of the run directory.
        config: The configuration that the run was started with, JSON-ready; see `RunConfig.record`. Of a sweep, the
            settings that are swept have the values of the run's own model.
        seeds: One for each model; of a sweep, one for each model of a combination of settings.
        validation_examples: Number of examples at the end of the training split that were held out.
        engine: Name of the engine.
        device: Name of the device that the engine ran on.
        certificate: The gradient check of the engine before the first step, or before the first step after the last
            resumption; see `mnist_bp.engines.certificate`.
        checkpoints: In order of step; of a run in parts, those of the run's model alone.
        seconds: Training time: shuffling and steps, without reading data or writing checkpoints. Of a run in parts,
            the time until all were trained, scored and stored.
        resumed: The checkpoints that the run was resumed from, oldest first.
        parts: The other files of a run in parts; None for any other run.
        seed: Of the run's own model, if the run is in parts.
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
    parts: StoredParts | None = None
    seed: int | None = None

    @property
    def models(self) -> int:
        """Number of models."""
        return len(self.seeds) if self.parts is None else self.parts.models

    def place(self, seed: int) -> int:
        """Return which of the models in each checkpoint file is the run's own, of the given seed."""
        return self.seeds.index(seed) if self.parts is None else 0

    @property
    def steps(self) -> int:
        """Steps taken by each model."""
        return self.checkpoints[-1].step

    @property
    def steps_per_second(self) -> float:
        """Mean speed of training, counting the steps of all models."""
        return self.steps * self.models / self.seconds


@dataclass(frozen=True)
class CheckpointScore:
    """The scores of one model after a number of steps, on the test images.

    Args:
        seed: Seed of the model.
        step: Steps taken.
        accuracy: Share of all test images that are classified correctly, in [0, 1]; pixels in [0, 1].
        lab_correct_of_1000: The lab's measure: correct among the first 1,000 test images; pixels in [0, 255]. None for
            a dataset that is not like MNIST, or has fewer.
        loss: Half the squared error, summed over classes, mean over all test images.
        accuracy_per_class: Share of each class's test images that are classified correctly.
        validation_accuracy: As `accuracy`, on the held-out training examples; None if none were held out.
    """

    seed: int
    step: int
    accuracy: float
    lab_correct_of_1000: int | None
    loss: float
    accuracy_per_class: tuple[float, ...]
    validation_accuracy: float | None = None


@dataclass(frozen=True, eq=False)
class ModelScores:
    """The scores of M models after each of S checkpoints, in columns; NaN from the step on at which a model diverged.

    Args:
        settings: The combinations of settings that are swept; one that is empty without a sweep.
        combination: For each model, which of the combinations it has, shape (M,).
        seeds: Shape (M,).
        steps: Of each checkpoint.
        accuracy, loss, lab, validation: As `accuracy`, `loss`, `lab_correct_of_1000` and `validation_accuracy` of
            `CheckpointScore`, shape (S, M); NaN where a value is missing.
        per_class: As `accuracy_per_class`, shape (S, M, K).
    """

    settings: tuple[Mapping[str, Any], ...]
    combination: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64]
    steps: tuple[int, ...]
    accuracy: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    lab: npt.NDArray[np.float64]
    validation: npt.NDArray[np.float64]
    per_class: npt.NDArray[np.float64]

    @property
    def remaining(self) -> npt.NDArray[np.int64]:
        """Indices of the models that have not diverged."""
        import numpy as np

        return np.flatnonzero(~np.isnan(self.accuracy[-1]))

    @property
    def final_accuracies(self) -> npt.NDArray[np.float64]:
        """The accuracies after the last step of the models that have not diverged."""
        last: npt.NDArray[np.float64] = self.accuracy[-1, self.remaining]
        return last

    @property
    def diverged(self) -> int:
        """Number of models that diverged."""
        return len(self.seeds) - len(self.remaining)

    @property
    def best(self) -> int:
        """Index of the run's own model: of all, the one with the best validation accuracy after the last step."""
        remaining = self.remaining
        return int(remaining[self.validation[-1][remaining].argmax()])

    def score(self, step: int, model: int) -> CheckpointScore:
        """Return one model's scores at one checkpoint.

        Args:
            step: Index of the checkpoint.
            model: Index of the model, which has not diverged there.
        """
        lab = float(self.lab[step, model])
        return CheckpointScore(
            seed=int(self.seeds[model]),
            step=self.steps[step],
            accuracy=float(self.accuracy[step, model]),
            lab_correct_of_1000=None if math.isnan(lab) else int(lab),
            loss=float(self.loss[step, model]),
            accuracy_per_class=tuple(self.per_class[step, model].tolist()),
            validation_accuracy=float(self.validation[step, model]),
        )


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
        models: Of a run in parts, the scores of all models; `scores` then has those of the run's own model, for the
            steps whose weights are kept.
    """

    seed: int
    scores: tuple[CheckpointScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...] = ()
    models: ModelScores | None = None

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
        """The scores of all models after the last step, except of those that diverged."""
        if (models := self.models) is not None:
            return tuple(models.score(-1, int(model)) for model in models.remaining)
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
