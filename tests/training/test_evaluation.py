"""Scores compared with a count of one image at a time, with every engine."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.interface import Engine
from mnist_bp.model.parameters import FloatArray, Model, Parameters, initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.evaluation import SMALLEST_LIKELIHOOD, Evaluator
from tests.support.networks import CPU_ENGINES, LAB

every_engine = pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda engine: engine.name)


def predicted(model: Model, x: FloatArray) -> FloatArray:
    """Compute a2 for one image, in float64."""
    with np.errstate(over="ignore"):
        a1 = 1 / (1 + np.exp(-(x @ model.W1.astype(np.float64) + model.b1)))
        a2: FloatArray = 1 / (1 + np.exp(-(a1 @ model.W2.astype(np.float64) + model.b2)))
    return a2


@every_engine
def test_scores_are_those_of_counting_one_image_at_a_time(engine: Engine, sample: CachedDataset) -> None:
    images, labels = load_split(sample.test)
    model = initial_parameters(1, 784, 30, 10)
    evaluator = Evaluator(engine, images, labels, LAB)
    score, confusion = evaluator.score(3, 7, model), evaluator.confusion(model)

    counted = [[0] * 10 for _ in range(10)]
    squared, raw_correct = 0.0, 0
    for image, label in zip(images, labels.tolist(), strict=True):
        a2 = predicted(model, image / 255)
        counted[label][int(a2.argmax())] += 1
        squared += sum((float(a2[k]) - (k == label)) ** 2 for k in range(10))
        raw_correct += int(predicted(model, image.astype(np.float64)).argmax()) == label

    assert confusion == tuple(tuple(row) for row in counted)
    assert (score.seed, score.step) == (3, 7)
    assert score.accuracy == evaluator.accuracy(model) == sum(counted[k][k] for k in range(10)) / 1000
    assert score.lab_correct_of_1000 == pytest.approx(raw_correct, abs=3)  # saturated: float32 has ties
    assert score.loss == pytest.approx(squared / 2 / 1000, rel=1e-5)
    assert score.accuracy_per_class == pytest.approx([counted[k][k] / 100 for k in range(10)])


@every_engine
def test_the_figure_of_the_lab_counts_only_the_first_1000_images(engine: Engine, mnist: CachedDataset) -> None:
    images, labels = load_split(mnist.test)
    model = initial_parameters(1, 784, 30, 10)
    whole = Evaluator(engine, images, labels, LAB).score(1, 0, model)
    first = Evaluator(engine, images[:1000], labels[:1000], LAB).score(1, 0, model)
    assert whole.lab_correct_of_1000 == first.lab_correct_of_1000
    assert whole.accuracy != first.accuracy


@every_engine
def test_raw_and_scaled_pixels_give_different_scores(engine: Engine) -> None:
    """A single pixel of value 255: scaled to [0, 1], the bias outweighs it; as a raw value, it does not."""
    images, labels = np.full((10, 1), 255, np.uint8), np.ones(10, np.uint8)
    W1, W2 = np.full((1, 1), 0.05, np.float32), np.array([[0.0, 10.0]], np.float32)
    model = Parameters(W1, np.zeros(1, np.float32), W2, np.array([8.0, 0.0], np.float32))
    score = Evaluator(engine, images, labels, LAB, classes=2).score(1, 0, model)
    assert score.accuracy == 0.0
    assert score.lab_correct_of_1000 == 10


@every_engine
def test_a_class_without_test_images_scores_zero_rather_than_not_a_number(engine: Engine) -> None:
    images, labels = np.zeros((4, 3), np.uint8), np.zeros(4, np.uint8)
    score = Evaluator(engine, images, labels, LAB, classes=2).score(1, 0, initial_parameters(1, 3, 2, 2))
    assert score.accuracy_per_class[1] == 0.0


@every_engine
def test_the_loss_is_the_one_that_the_recipe_minimizes_and_stays_finite(engine: Engine) -> None:
    """Two images of one pixel: one is predicted right with doubt, one is wrong and saturated."""
    images, labels = np.array([[0], [255]], np.uint8), np.zeros(2, np.uint8)
    W1, W2 = np.ones((1, 1), np.float32), np.array([[-1000.0, 1000.0]], np.float32)
    model = Parameters(W1, np.zeros(1, np.float32), W2, np.array([1.0, -1.0], np.float32))
    a2 = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]  # of the first image; of the second: 0 and 1
    relu = Recipe(activation="relu")
    squared = Evaluator(engine, images, labels, relu, classes=2).score(1, 0, model).loss
    assert squared == pytest.approx(((a2[0] - 1) ** 2 + a2[1] ** 2 + 1 + 1) / 2 / 2, rel=1e-5)
    entropy = Evaluator(engine, images, labels, replace(relu, loss="cross_entropy"), classes=2)
    first = -math.log(a2[0]) - math.log(1 - a2[1])
    smallest = -math.log(SMALLEST_LIKELIHOOD)
    assert entropy.score(1, 0, model).loss == pytest.approx((first + 2 * smallest) / 2, rel=5e-3)
