"""The hand-written gradients compared with autograd and with finite differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnist_bp.model.backprop import Gradients, backward, descend, forward, loss
from mnist_bp.model.parameters import Parameters
from mnist_bp.model.recipe import Recipe
from tests.support.networks import LAB, RECIPES, Problem, every_recipe, random_problem, relative_error

SHAPES = [  # inputs, hidden, classes, batch
    (784, 30, 10, 10),
    (784, 30, 10, 1),
    (784, 100, 10, 32),
    (17, 5, 3, 4),
    (3, 1, 2, 1),
    (1, 1, 1, 1),
    (64, 128, 26, 7),
]


def loss_of(parameters: Parameters[Tensor], x: Tensor, t: Tensor, recipe: Recipe) -> Tensor:
    return loss(forward(parameters, x, recipe.activation).a2, t, recipe.loss)


def gradients_of(problem: Problem, recipe: Recipe) -> Gradients:
    parameters, x, t = problem
    return backward(parameters, x, forward(parameters, x, recipe.activation), t, recipe)


def autograd_gradients(problem: Problem, recipe: Recipe) -> Gradients:
    leaves = Parameters(*(parameter.clone().requires_grad_() for parameter in problem.parameters))
    return Gradients(*torch.autograd.grad(loss_of(leaves, problem.x, problem.t, recipe), leaves))


def assert_gradients_match_autograd(problem: Problem, recipe: Recipe, limit: float) -> None:
    found, judge = gradients_of(problem, recipe), autograd_gradients(problem, recipe)
    for name, gradient, expected in zip(Gradients._fields, found, judge, strict=True):
        assert gradient.shape == expected.shape
        assert expected.abs().max() > 0, f"{name} is all zero: the comparison would prove nothing"
        assert relative_error(gradient, expected) <= limit, name


def mild(problem: Problem) -> Problem:
    """Divide the weights: saturated outputs have a cross-entropy that autograd differentiates inexactly."""
    return problem._replace(parameters=problem.parameters.map(lambda parameter: parameter / 8))


def without_dead_units(problem: Problem) -> Problem:
    """Give each hidden unit a bias with which it is active for one image at least: all zero would prove nothing."""
    parameters, x, _ = problem
    return problem._replace(parameters=parameters._replace(b1=0.1 - (x @ parameters.W1).amax(0)))


@every_recipe
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), SHAPES)
def test_every_gradient_matches_autograd_in_float64(
    inputs: int, hidden: int, classes: int, batch: int, seed: int, recipe: Recipe
) -> None:
    problem = without_dead_units(mild(random_problem(seed, inputs, hidden, classes, batch)))
    assert_gradients_match_autograd(problem, recipe, limit=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 60),
    hidden=st.integers(1, 20),
    classes=st.integers(1, 12),
    batch=st.integers(1, 16),
    recipe=st.sampled_from(RECIPES),
)
def test_every_gradient_matches_autograd_for_any_shape(
    seed: int, inputs: int, hidden: int, classes: int, batch: int, recipe: Recipe
) -> None:
    problem = mild(random_problem(seed, inputs, hidden, classes, batch))
    if recipe.activation == "relu":
        problem = without_dead_units(problem)
    assert_gradients_match_autograd(problem, recipe, limit=1e-10)


@every_recipe
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), [(17, 5, 3, 4), (6, 4, 3, 1)])
def test_every_gradient_matches_central_differences(
    inputs: int, hidden: int, classes: int, batch: int, recipe: Recipe
) -> None:
    problem = parameters, x, t = mild(random_problem(3, inputs, hidden, classes, batch))
    found = gradients_of(problem, recipe)
    step = 1e-6
    for parameter, gradient in zip(parameters, found, strict=True):
        differences = torch.empty_like(parameter)
        for index in range(parameter.numel()):
            value = parameter.view(-1)[index].item()
            parameter.view(-1)[index] = value + step
            above = loss_of(parameters, x, t, recipe)
            parameter.view(-1)[index] = value - step
            below = loss_of(parameters, x, t, recipe)
            parameter.view(-1)[index] = value
            differences.view(-1)[index] = (above - below) / (2 * step)
        assert relative_error(gradient, differences) <= 1e-7


def test_mean_bias_gradients_are_the_sums_over_the_batch_size_and_leave_the_weights_alone() -> None:
    problem = random_problem(0, 17, 5, 3, 4)
    summed, mean = (gradients_of(problem, Recipe(bias_gradient=each)) for each in ("sum", "mean"))
    assert relative_error(mean.db1, summed.db1 / 4) < 1e-15
    assert relative_error(mean.db2, summed.db2 / 4) < 1e-15
    assert torch.equal(mean.dW1, summed.dW1)
    assert torch.equal(mean.dW2, summed.dW2)


@every_recipe
def test_a_small_step_along_the_gradient_lowers_the_loss_by_its_squared_length(recipe: Recipe) -> None:
    problem = parameters, x, t = random_problem(5, 17, 5, 3, 4)
    gradients, before = gradients_of(problem, recipe), loss_of(parameters, x, t, recipe)
    rate = 1e-6
    descend(parameters, gradients, rate)
    drop = before - loss_of(parameters, x, t, recipe)
    assert drop.item() == pytest.approx(rate * sum(g.square().sum().item() for g in gradients), rel=1e-3)


@every_recipe
def test_saturated_units_have_finite_gradients(recipe: Recipe) -> None:
    parameters, x, t = random_problem(0, 17, 5, 3, 4, torch.float32)
    extreme = Parameters(*(parameter * 1e4 for parameter in parameters))
    for gradient in gradients_of(Problem(extreme, x, t), recipe):
        assert torch.isfinite(gradient).all()


def test_an_output_that_is_wrong_and_saturated_still_learns_by_the_cross_entropy_alone() -> None:
    parameters, x, t = random_problem(0, 17, 5, 3, 1)
    wrong = parameters._replace(W2=parameters.W2 * 0, b2=40 * (1 - 2 * t[0]))  # outputs of the targets' complement
    squared, entropy = (
        gradients_of(Problem(wrong, x, t), Recipe(loss=each)) for each in ("squared_error", "cross_entropy")
    )
    assert squared.db2.abs().max() < 1e-15
    assert relative_error(entropy.db2, 1 - 2 * t[0]) < 1e-15


def test_a_hidden_unit_of_relu_that_is_not_active_passes_nothing_on() -> None:
    parameters, x, t = random_problem(0, 17, 5, 3, 4)
    off = parameters._replace(b1=torch.tensor([-30.0, 30.0, -30.0, 30.0, -30.0], dtype=torch.float64))
    gradients = gradients_of(Problem(off, x, t), RECIPES[-1])
    da1 = gradients.db2 @ off.W2.T
    assert relative_error(gradients.db1, da1 * torch.tensor([0, 1, 0, 1, 0])) < 1e-12
    assert (gradients.dW1[:, 0] == 0).all()


def test_the_lab_is_the_default() -> None:
    assert Recipe() == LAB == Recipe("normal", "squared_error", "sigmoid", "mean", 0.5, "constant", 10_000, 0)


def test_a_recipe_is_named_by_what_differs_from_the_lab() -> None:
    assert Recipe().label == Recipe(steps=5).label == "lab"
    well = Recipe("scaled", "cross_entropy", "relu", "sum", 0.02, "linear", 60_000, 1)
    assert well.label == (
        "initial scaled, loss cross-entropy, activation relu, bias gradient sum, learning rate 0.02, schedule linear, "
        "shift 1"
    )
