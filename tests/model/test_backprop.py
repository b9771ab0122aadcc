"""The hand-written gradients compared with autograd and with finite differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_bp.model.backprop import Gradients, backward, descend, forward, loss
from mnist_bp.model.parameters import Parameters
from tests.support.networks import Problem, random_problem, relative_error

SHAPES = [  # inputs, hidden, classes, batch
    (784, 30, 10, 10),
    (784, 30, 10, 1),
    (784, 100, 10, 32),
    (17, 5, 3, 4),
    (3, 1, 2, 1),
    (1, 1, 1, 1),
    (64, 128, 26, 7),
]


def autograd_gradients(problem: Problem) -> Gradients:
    leaves = Parameters(*(parameter.clone().requires_grad_() for parameter in problem.parameters))
    return Gradients(*torch.autograd.grad(loss(forward(leaves, problem.x).a2, problem.t), leaves))


def assert_gradients_match_autograd(problem: Problem, limit: float) -> None:
    parameters, x, t = problem
    found = backward(parameters, x, forward(parameters, x), t, "sum")
    for name, gradient, expected in zip(Gradients._fields, found, autograd_gradients(problem), strict=True):
        assert gradient.shape == expected.shape
        assert expected.abs().max() > 0, f"{name} is all zero: the comparison would prove nothing"
        assert relative_error(gradient, expected) <= limit, name


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), SHAPES)
def test_every_gradient_matches_autograd_in_float64(
    inputs: int, hidden: int, classes: int, batch: int, seed: int
) -> None:
    assert_gradients_match_autograd(random_problem(seed, inputs, hidden, classes, batch), limit=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 60),
    hidden=st.integers(1, 20),
    classes=st.integers(1, 12),
    batch=st.integers(1, 16),
)
def test_every_gradient_matches_autograd_for_any_shape(
    seed: int, inputs: int, hidden: int, classes: int, batch: int
) -> None:
    assert_gradients_match_autograd(random_problem(seed, inputs, hidden, classes, batch), limit=1e-10)


@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), [(17, 5, 3, 4), (6, 4, 3, 1)])
def test_every_gradient_matches_central_differences(inputs: int, hidden: int, classes: int, batch: int) -> None:
    parameters, x, t = random_problem(3, inputs, hidden, classes, batch)
    found = backward(parameters, x, forward(parameters, x), t, "sum")
    step = 1e-6
    for parameter, gradient in zip(parameters, found, strict=True):
        differences = torch.empty_like(parameter)
        for index in range(parameter.numel()):
            value = parameter.view(-1)[index].item()
            parameter.view(-1)[index] = value + step
            above = loss(forward(parameters, x).a2, t)
            parameter.view(-1)[index] = value - step
            below = loss(forward(parameters, x).a2, t)
            parameter.view(-1)[index] = value
            differences.view(-1)[index] = (above - below) / (2 * step)
        assert relative_error(gradient, differences) <= 1e-7


def test_mean_bias_gradients_are_the_sums_over_the_batch_size_and_leave_the_weights_alone() -> None:
    parameters, x, t = random_problem(0, 17, 5, 3, 4)
    summed = backward(parameters, x, forward(parameters, x), t, "sum")
    mean = backward(parameters, x, forward(parameters, x), t, "mean")
    assert relative_error(mean.db1, summed.db1 / 4) < 1e-15
    assert relative_error(mean.db2, summed.db2 / 4) < 1e-15
    assert torch.equal(mean.dW1, summed.dW1)
    assert torch.equal(mean.dW2, summed.dW2)


def test_a_small_step_along_the_gradient_lowers_the_loss_by_its_squared_length() -> None:
    parameters, x, t = random_problem(5, 17, 5, 3, 4)
    gradients = backward(parameters, x, forward(parameters, x), t, "sum")
    before = loss(forward(parameters, x).a2, t)
    rate = 1e-6
    descend(parameters, gradients, rate)
    drop = before - loss(forward(parameters, x).a2, t)
    assert drop.item() == pytest.approx(rate * sum(g.square().sum().item() for g in gradients), rel=1e-3)


def test_saturated_units_have_finite_gradients() -> None:
    parameters, x, t = random_problem(0, 17, 5, 3, 4, torch.float32)
    extreme = Parameters(*(parameter * 1e4 for parameter in parameters))
    for gradient in backward(extreme, x, forward(extreme, x), t, "sum"):
        assert torch.isfinite(gradient).all()
