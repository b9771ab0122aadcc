"""Results of evaluation: the scores of models, and the mistakes of the one that is published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that train nothing start without NumPy
    import numpy as np
    import numpy.typing as npt


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
class ScoreColumns:
    """The scores of M models after each of S checkpoints, in columns; NaN from the step on at which a model diverged.

    Args:
        accuracy, loss, lab, validation: As `accuracy`, `loss`, `lab_correct_of_1000` and `validation_accuracy` of
            `CheckpointScore`, shape (S, M); NaN where a value is missing.
        per_class: As `accuracy_per_class`, shape (S, M, K).
    """

    accuracy: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    lab: npt.NDArray[np.float64]
    validation: npt.NDArray[np.float64]
    per_class: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ModelScores(ScoreColumns):
    """The scores of all M models of a run in parts, and which model each column has.

    Args:
        settings: The combinations of settings that are swept; one that is empty without a sweep.
        combination: For each model, which of the combinations it has, shape (M,).
        seeds: Shape (M,).
        steps: Of each checkpoint.
    """

    settings: tuple[Mapping[str, Any], ...]
    combination: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64]
    steps: tuple[int, ...]

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
