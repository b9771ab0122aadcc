"""Every implementation that is compared takes the steps that it claims to take."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.peers import PEERS, NotAvailableError, Task, Trainer
from mnist_bp.engines.interface import Batches, unmoved
from mnist_bp.model.backprop import backward, descend, forward
from mnist_bp.model.parameters import Model, initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.training.loop import ExampleOrder
from mnist_bp.training.shifts import Shifts

SAME_MATHEMATICS = [name for name in PEERS if name != "sklearn"]
WELL = Recipe("scaled", "cross_entropy", "relu", "sum", 0.015, "linear", 100, shift=2)


def load(name: str, task: Task) -> Trainer:
    try:
        return PEERS[name].load(task)
    except NotAvailableError as error:
        pytest.skip(str(error))


def by_the_equations(task: Task, model: Model, batches: Batches) -> Model:
    """Train with backprop.py in float64."""
    recipe, parameters = task.recipe, model.map(lambda array: torch.from_numpy(array.astype(np.float64)))
    for batch, offsets, rate in zip(batches.rows, batches.offsets.tolist(), batches.rates.tolist(), strict=True):
        images = [np.roll(image, offset) for image, offset in zip(task.images[batch], offsets, strict=True)]
        x = torch.from_numpy(np.stack(images) / 255)
        t = torch.eye(10, dtype=torch.float64)[torch.from_numpy(task.labels[batch].astype(np.int64))]
        descend(parameters, backward(parameters, x, forward(parameters, x, recipe.activation), t, recipe), rate)
    return parameters.map(lambda tensor: tensor.numpy())


def assert_its_steps_are_those_of_the_equations(name: str, task: Task, batches: Batches, limit: float) -> None:
    trainer = load(name, task)
    start = initial_parameters(1, 784, 30, 10, task.recipe.gain)
    before = start.map(np.copy)

    found = trainer.advance(start, batches)

    expected = by_the_equations(task, start, batches)
    for field, after, wanted, first, kept in zip(Model._fields, found, expected, start, before, strict=True):
        assert (first == kept).all(), f"{field}: the model to start from was changed"
        assert after.dtype == np.float32
        moved = np.abs(wanted - first).max()
        assert moved > 0
        assert np.abs(after - wanted).max() <= limit * max(moved, np.abs(first).max() * 0.1), field


@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize(("steps", "limit"), [(1, 1e-5), (23, 1e-3)])
@pytest.mark.parametrize("name", SAME_MATHEMATICS)
def test_its_steps_are_those_of_the_seven_equations(name: str, steps: int, limit: float, task: Task) -> None:
    rows = np.random.default_rng(2).integers(0, 120, (steps, 10))
    assert_its_steps_are_those_of_the_equations(name, task, unmoved(rows, 0.5), limit)


@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("name", [peer.name for peer in PEERS.values() if peer.recipes])
def test_its_steps_are_those_of_the_second_forms_with_falling_rates_and_moved_images(name: str, task: Task) -> None:
    task.recipe = WELL
    batches = ExampleOrder(3, 120, 10, WELL, Shifts(task.images, 28, WELL.shift)).batches(0, 23)
    assert len(np.unique(batches.offsets)) == 25
    assert_its_steps_are_those_of_the_equations(name, task, batches, 1e-3)


@pytest.mark.usefixtures("_threads_restored")
def test_scikit_learns_step_is_the_mean_gradient_of_log_loss(task: Task) -> None:
    trainer = load("sklearn", task)
    W1, b1, W2, b2 = start = initial_parameters(1, 784, 30, 10)
    batch = np.arange(10, 20)
    x, t = task.pixels()[batch], task.one_hot()[batch]

    found = trainer.advance(start, unmoved(batch[np.newaxis], 0.5))

    a1 = (np.tanh((x @ W1 + b1) / 2) + 1) / 2
    z2 = a1 @ W2 + b2
    a2 = np.exp(z2) / np.exp(z2).sum(1, keepdims=True)
    dz2 = (a2 - t) / 10
    dz1 = dz2 @ W2.T * a1 * (1 - a1)
    steps = (x.T @ dz1, dz1.sum(0), a1.T @ dz2, dz2.sum(0))
    for after, first, step in zip(found, start, steps, strict=True):
        np.testing.assert_allclose(after, first - task.recipe.learning_rate * step, atol=1e-5)


def test_a_task_reads_what_torchvision_reads(task: Task) -> None:
    from torchvision.datasets import MNIST

    theirs = MNIST(str(task.directory), train=True)
    assert (task.images == theirs.data.numpy().reshape(-1, 784)).all()
    assert (task.labels == theirs.targets.numpy()).all()
    assert len(task.test[0]) == len(task.test[1]) == 120
