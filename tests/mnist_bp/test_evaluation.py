"""Scores against a count done by hand."""

from __future__ import annotations

import pytest
import torch

from mnist_bp.evaluation import Evaluator
from mnist_bp.network import Parameters, forward, initial_parameters
from mnist_bp.preprocess import load_split
from mnist_bp.records import CachedDataset


def test_scores_are_what_counting_one_image_at_a_time_gives(sample: CachedDataset) -> None:
    images, labels = load_split(sample.test)
    parameters = initial_parameters(1, 784, 30, 10)
    evaluator = Evaluator(images, labels)
    score, confusion = evaluator.score(7, parameters), evaluator.confusion(parameters)

    counted = [[0] * 10 for _ in range(10)]
    squared, raw_correct = 0.0, 0
    for image, label in zip(images, labels.tolist(), strict=True):
        a2 = forward(parameters, image.view(1, -1) / 255).a2[0]
        counted[label][int(a2.argmax())] += 1
        squared += sum((float(a2[k]) - (k == label)) ** 2 for k in range(10))
        raw_correct += int(forward(parameters, image.view(1, -1).float()).a2[0].argmax()) == label

    assert confusion == tuple(tuple(row) for row in counted)
    assert score.step == 7
    assert score.accuracy == sum(counted[k][k] for k in range(10)) / 1000
    assert score.lab_correct_of_1000 == raw_correct
    assert score.loss == pytest.approx(squared / 2 / 1000, rel=1e-5)
    assert score.accuracy_per_class == pytest.approx([counted[k][k] / 100 for k in range(10)])


def test_the_labs_figure_counts_the_first_1000_images_alone(mnist: CachedDataset) -> None:
    images, labels = load_split(mnist.test)
    parameters = initial_parameters(1, 784, 30, 10)
    whole = Evaluator(images, labels).score(0, parameters)
    first = Evaluator(images[:1000], labels[:1000]).score(0, parameters)
    assert whole.lab_correct_of_1000 == first.lab_correct_of_1000
    assert whole.accuracy != first.accuracy


def test_raw_and_scaled_pixels_are_told_apart() -> None:
    """One pixel of 255 that decides: in [0, 1] the bias outweighs it, as a raw value it does not."""
    images, labels = torch.full((10, 1), 255, dtype=torch.uint8), torch.ones(10, dtype=torch.uint8)
    one, zero = torch.ones(1, 1), torch.zeros(1)
    parameters = Parameters(one / 20, zero, torch.tensor([[0.0, 10.0]]), torch.tensor([8.0, 0.0]))
    score = Evaluator(images, labels, classes=2).score(0, parameters)
    assert score.accuracy == 0.0
    assert score.lab_correct_of_1000 == 10


def test_a_class_without_test_images_scores_zero_rather_than_not_a_number() -> None:
    images, labels = torch.zeros(4, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.uint8)
    score = Evaluator(images, labels, classes=2).score(0, initial_parameters(1, 3, 2, 2))
    assert score.accuracy_per_class[1] == 0.0
