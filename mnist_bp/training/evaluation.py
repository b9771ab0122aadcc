"""Evaluation on the test images, which training never reads.

Two figures must not be confused. `accuracy` is computed from pixels in [0, 1], as in training, over all test images.
`lab_correct_of_1000` is the figure that the lab printed: from raw pixels in [0, 255], over the first 1,000 test images.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from statistics import fmean, median, stdev
from typing import Final

import numpy as np

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.parallel import on_every_core
from mnist_bp.model.parameters import FloatArray, IntArray, Model, UInt8Array
from mnist_bp.model.recipe import Recipe, recipe_of
from mnist_bp.results.common import Progress
from mnist_bp.results.dataset import LAB_EXAMPLES, CachedDataset
from mnist_bp.results.evaluation import CheckpointScore, Evaluation, Mistake, SeedStatistics
from mnist_bp.results.training import TrainedRun
from mnist_bp.training.checkpoints import load_checkpoint

logger = logging.getLogger(__name__)

MAX_MISTAKES: Final = 24
"""Number of mistakes in an evaluation: as many as fit on a screen."""

SMALLEST_LIKELIHOOD: Final = float(np.finfo(np.float32).tiny)
"""A saturated output that is wrong would have an infinite cross-entropy."""

VALIDATION_NOTE: Final = "on held-out training images, so not comparable with the accuracy on test images"
"""Explains validation accuracy wherever it is shown; on MNIST it is the higher of the two, see docs/lab-8-4.md."""

WEAK: Final = 0.90
"""Accuracy below which a model counts as weak: a few seeds saturate early and never recover."""


class Evaluator:
    """Images that are loaded once, to score any number of models.

    Args:
        engine: Engine that computes the predictions.
        images: Pixels in [0, 255], shape (N, D).
        labels: Classes in [0, K), shape (N,).
        recipe: Of the models: decides their activation and the loss.
        classes: K, at least 2.
        lab: Whether to score as the lab did as well; see `DatasetShape.has_lab_figure`.
    """

    def __init__(
        self,
        engine: Engine,
        images: UInt8Array,
        labels: UInt8Array,
        recipe: Recipe,
        classes: int = 10,
        *,
        lab: bool = True,
    ) -> None:
        self._recipe = recipe
        self._data = engine.load(images, labels, classes)
        self._first = engine.load(images[:LAB_EXAMPLES], labels[:LAB_EXAMPLES], classes) if lab else None
        self._labels = labels.astype(np.int64)
        self._t = np.eye(classes, dtype=np.float32)[labels]  # (N, K)

    def with_recipe(self, recipe: Recipe) -> Evaluator:
        """Return an evaluator of models of another recipe on the same images."""
        other = copy(self)
        other._recipe = recipe
        return other

    def score(self, seed: int, step: int, model: Model) -> CheckpointScore:
        """Score one model.

        Args:
            seed: The model's seed; only copied to the result.
            step: Number of steps that the model has taken; only copied to the result.
            model: The model's weights.
        """
        a2 = self._predict(model)  # (N, K)
        confusion = self._confusion(a2.argmax(1))
        return CheckpointScore(
            seed=seed,
            step=step,
            accuracy=int(confusion.trace()) / len(a2),
            lab_correct_of_1000=self.lab_correct(model),
            loss=self._loss(a2),
            accuracy_per_class=tuple((confusion.diagonal() / confusion.sum(1).clip(min=1)).tolist()),
        )

    def lab_correct(self, model: Model) -> int | None:
        """Count how many of the first 1,000 images are classified correctly from raw pixels in [0, 255].

        Returns:
            None if the images are not scored as the lab did.
        """
        if self._first is None:
            return None
        predicted = self._first.predict(model, self._recipe.activation, scale=1).argmax(1)
        return int((predicted == self._labels[:LAB_EXAMPLES]).sum())

    def accuracy(self, model: Model) -> float:
        """Return the share of images that are classified correctly, in [0, 1]."""
        return float((self._predict(model).argmax(1) == self._labels).mean())

    def confusion(self, model: Model) -> tuple[tuple[int, ...], ...]:
        """Count the predictions: rows are true classes, columns predicted classes; shape (K, K)."""
        return tuple(tuple(row) for row in self._confusion(self._predict(model).argmax(1)).tolist())

    def mistakes(self, model: Model, limit: int = MAX_MISTAKES) -> tuple[Mistake, ...]:
        """List the wrongly classified images, the most confident mistakes first.

        Mistakes are sorted by the predicted class's output minus the true class's output, then by row.

        Args:
            model: The model's weights.
            limit: Largest number of mistakes to return.
        """
        a2 = self._predict(model)  # (N, K)
        predicted, rows = a2.argmax(1), np.arange(len(a2))
        margin = a2[rows, predicted] - a2[rows, self._labels]  # (N,)
        wrong = np.flatnonzero(predicted != self._labels)
        return tuple(
            Mistake(int(i), int(self._labels[i]), int(predicted[i]), float(a2[i, predicted[i]]), float(a2[i, label]))
            for i in wrong[np.argsort(-margin[wrong], kind="stable")][:limit]
            for label in (self._labels[i],)
        )

    def _predict(self, model: Model) -> FloatArray:
        return self._data.predict(model, self._recipe.activation)

    def _loss(self, a2: FloatArray) -> float:
        """Return the mean over the images of the loss that training minimizes; see `mnist_bp.model.backprop`."""
        if self._recipe.loss == "squared_error":
            return float(np.square(a2 - self._t).sum(dtype=np.float64)) / 2 / len(a2)
        likelihood = np.where(self._t == 1, a2, 1 - a2)  # of each output's target
        return -float(np.log(likelihood.clip(min=SMALLEST_LIKELIHOOD)).sum(dtype=np.float64)) / len(a2)

    def _confusion(self, predicted: IntArray) -> IntArray:
        classes = self._t.shape[1]
        return np.bincount(self._labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def evaluate_run(data: CachedDataset, trained: TrainedRun, *, on_progress: Progress | None = None) -> Evaluation:
    """Score every checkpoint of a run on all test images, and choose its model by the held-out training examples.

    Args:
        data: The dataset; its test split is read, and the held-out examples of its training split.
        trained: The run; each checkpoint is verified against its digest.
        on_progress: Called with the number of checkpoints scored, and how many there are.

    Raises:
        ChecksumError, DataFormatError, StoreError: A file is damaged, malformed or missing.
    """
    engine, _ = choose_engine(trained.engine if trained.device == "cpu" else "auto")
    recipe, shape = recipe_of(trained.config), data.shape
    lab = shape.has_lab_figure(data.test_examples)
    test = Evaluator(engine, *load_split(data.test), recipe, shape.classes, lab=lab)
    validation = None
    if trained.validation_examples:
        images, labels = load_split(data.train)
        held_out = slice(-trained.validation_examples, None)
        validation = Evaluator(engine, images[held_out], labels[held_out], recipe, shape.classes, lab=False)
    every: list[CheckpointScore] = []
    for number, point in enumerate(trained.checkpoints, start=1):
        models = load_checkpoint(point.file)
        scores = on_every_core(partial(_score, test, validation, point.step), trained.seeds, models)
        every.extend(scores)
        logger.info(f"evaluate    step {point.step:>9,}  {_describe(scores)}")
        if on_progress is not None:
            on_progress(number, len(trained.checkpoints), "")
    best = max(scores, key=lambda score: score.validation_accuracy or 0)
    chosen = models[trained.seeds.index(best.seed)]
    return Evaluation(best.seed, tuple(every), test.confusion(chosen), test.mistakes(chosen))


def _score(test: Evaluator, validation: Evaluator | None, step: int, seed: int, model: Model) -> CheckpointScore:
    score = test.score(seed, step, model)
    return score if validation is None else replace(score, validation_accuracy=validation.accuracy(model))


def _describe(scores: Sequence[CheckpointScore]) -> str:
    """Summarize the scores of all models at one checkpoint in one line."""
    if len(scores) == 1:
        (score,) = scores
        lab = "" if score.lab_correct_of_1000 is None else f"lab {score.lab_correct_of_1000}/1,000  "
        return f"accuracy {score.accuracy:.4f}  {lab}loss {score.loss:.4f}"
    accuracies = [score.accuracy for score in scores]
    return f"accuracy {median(accuracies):.4f} (median), {min(accuracies):.4f} to {max(accuracies):.4f}"


def seed_statistics(evaluation: Evaluation) -> SeedStatistics:
    """Summarize the test accuracies of all models of a run after the last step."""
    if evaluation.models is not None:
        accuracies = evaluation.models.final_accuracies.tolist()
    else:
        accuracies = [score.accuracy for score in evaluation.final_scores]
    return SeedStatistics(
        mean=fmean(accuracies),
        median=median(accuracies),
        standard_deviation=stdev(accuracies) if len(accuracies) > 1 else 0.0,
        minimum=min(accuracies),
        maximum=max(accuracies),
        share_below_90_percent=sum(accuracy < WEAK for accuracy in accuracies) / len(accuracies),
    )
