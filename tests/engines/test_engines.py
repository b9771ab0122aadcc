"""Every engine compared with float64 autograd: gradients, trajectories, and extreme shapes and weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mnist_bp.engines.certificate import gradients_of
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.interface import Batches, Engine, unmoved
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.backprop import forward, loss
from mnist_bp.model.parameters import Model, Parameters, UInt8Array, initial_parameters
from mnist_bp.model.recipe import Recipe
from tests.support.networks import CPU_ENGINES, LAB, RECIPES, every_recipe

LIMIT = {"float32": 2e-6, "float64": 1e-10}
EPSILON = {"float32": 6e-8, "float64": 1.2e-16}

every_engine = pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda engine: engine.name)
every_precision = pytest.mark.parametrize("dtype", ["float32", "float64"])

SHAPES = [  # inputs, hidden, classes, batch
    (784, 30, 10, 10),
    (784, 30, 10, 1),
    (784, 100, 10, 32),
    (17, 5, 3, 4),
    (3, 1, 2, 1),
    (1, 1, 1, 1),
    (64, 128, 26, 7),
    (20, 33, 17, 3),
    (9, 32, 16, 2),
]

KINDS = ("digits", "zero", "white", "one pixel", "last pixel", "dense")
Kind = Literal["digits", "zero", "white", "one pixel", "last pixel", "dense"]


def pixels(kind: Kind, count: int, inputs: int, draw: np.random.RandomState) -> UInt8Array:
    images = draw.randint(1, 256, size=(count, inputs)).astype(np.uint8)
    if kind == "digits":
        images *= draw.random_sample(images.shape) < 0.2
    elif kind == "zero":
        images[:] = 0
    elif kind == "white":
        images[:] = 255
    elif kind == "one pixel":
        images *= np.arange(inputs) == draw.randint(inputs)
    elif kind == "last pixel":
        images *= np.arange(inputs) == inputs - 1
    return images


def network(seed: int, inputs: int, hidden: int, classes: int, recipe: Recipe) -> Model:
    """A network whose hidden units are not all inactive with ReLU, and whose outputs are not saturated."""
    if recipe.activation == "sigmoid" and recipe.loss == "squared_error":
        return initial_parameters(seed, inputs, hidden, classes)
    drawn = initial_parameters(seed, inputs, hidden, classes, gain=0.1)
    return drawn._replace(b1=drawn.b1 + np.float32(0.3))


def autograd(model: Model, images: UInt8Array, labels: UInt8Array, classes: int, recipe: Recipe = LAB) -> Model:
    leaves = Parameters(*(torch.from_numpy(array.astype(np.float64)).requires_grad_() for array in model))
    t = torch.eye(classes, dtype=torch.float64)[torch.from_numpy(labels).long()]
    a2 = forward(leaves, torch.from_numpy(images).double() / 255, recipe.activation).a2
    total = loss(a2, t, recipe.loss)
    return Parameters(*(gradient.numpy() for gradient in torch.autograd.grad(total, leaves)))


def assert_gradients_match(
    engine: Engine,
    model: Model,
    images: UInt8Array,
    labels: UInt8Array,
    classes: int,
    at_least: float = 0.0,
    recipe: Recipe = LAB,
) -> None:
    """Compare gradients with autograd's, relative to the largest entry, or to `at_least` if that is larger."""
    dtype = model.W1.dtype.name
    found = gradients_of(engine.load(images, labels, classes), model, np.arange(len(images)), recipe)
    judge = autograd(model, images, labels, classes, recipe)
    for name, gradient, expected in zip(Parameters._fields, found, judge, strict=True):
        assert gradient.shape == expected.shape
        assert np.isfinite(gradient).all(), name
        error = np.abs(gradient - expected).max()
        assert error <= LIMIT[dtype] * max(np.abs(expected).max(), at_least), f"d{name} in {dtype}: {error}"


@every_engine
@every_precision
@every_recipe
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), SHAPES)
def test_every_gradient_matches_autograd(
    engine: Engine, dtype: str, inputs: int, hidden: int, classes: int, batch: int, recipe: Recipe
) -> None:
    draw = np.random.RandomState(0)
    model: Model = network(2, inputs, hidden, classes, recipe).map(lambda array: array.astype(dtype))
    images, labels = pixels("digits", batch, inputs, draw), draw.randint(classes, size=batch).astype(np.uint8)
    images[0] = 7  # images of zeros would agree with any wrong gradient
    assert all(np.abs(gradient).max() > 0 for gradient in autograd(model, images, labels, classes, recipe))
    assert_gradients_match(engine, model, images, labels, classes, recipe=recipe)


@every_engine
@every_precision
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 600),
    hidden=st.integers(1, 70),
    classes=st.integers(1, 40),
    batch=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
    recipe=st.sampled_from(RECIPES),
)
def test_every_gradient_matches_autograd_for_any_shape_and_any_pixels(
    engine: Engine,
    dtype: str,
    seed: int,
    inputs: int,
    hidden: int,
    classes: int,
    batch: int,
    kind: Kind,
    recipe: Recipe,
) -> None:
    draw = np.random.RandomState(seed)
    # as in the certificate, weights that do not saturate the sigmoids, which magnifies the rounding of z1
    model: Model = initial_parameters(seed, inputs, hidden, classes).map(lambda array: (array / 8).astype(dtype))
    images, labels = pixels(kind, batch, inputs, draw), draw.randint(classes, size=batch).astype(np.uint8)
    if recipe.activation == "relu":  # where rounding decides whether a unit is active, gradients differ
        assume(np.abs(images / 255 @ model.W1.astype(np.float64) + model.b1).min() > 1e-5)
    # the gradients of equal images with different labels cancel, their rounding errors do not
    assert_gradients_match(engine, model, images, labels, classes, at_least=0.05, recipe=recipe)


@every_engine
@every_precision
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-30, 1e-3, 10.0, 1e3, 1e6]),
    kind=st.sampled_from(KINDS),
)
def test_gradients_at_extreme_weights_are_finite_and_within_the_rounding_error(
    engine: Engine, dtype: str, seed: int, scale: float, kind: Kind
) -> None:
    """A weight of size s changes z by s * epsilon * terms in any engine, which is the limit."""
    inputs, hidden, classes, batch = 50, 7, 4, 3
    draw = np.random.RandomState(seed)
    model: Model = initial_parameters(seed, inputs, hidden, classes).map(lambda array: (array * scale).astype(dtype))
    images, labels = pixels(kind, batch, inputs, draw), draw.randint(classes, size=batch).astype(np.uint8)
    found = gradients_of(engine.load(images, labels, classes), model, np.arange(batch), LAB)
    judge = autograd(model, images, labels, classes)
    rounding = 50 * EPSILON[dtype] * max(scale, 1) * inputs
    for name, gradient, expected in zip(Parameters._fields, found, judge, strict=True):
        assert np.isfinite(gradient).all(), name
        assert np.abs(gradient - expected).max() <= min(1.0, rounding) * batch * max(scale, 1), name


@every_engine
def test_a_saturated_network_predicts_zero_and_one_without_a_warning(engine: Engine) -> None:
    W1 = np.array([[1e4, -1e4]], np.float32)
    model = Parameters(W1, np.zeros(2, np.float32), np.array([[1e4], [-1e4]], np.float32), np.zeros(1, np.float32))
    data = engine.load(np.array([[255], [0]], np.uint8), np.zeros(2, np.uint8), 1)
    assert data.predict(model, "sigmoid")[:, 0].tolist() == pytest.approx([1.0, 0.5])
    assert data.predict(model._replace(W2=-model.W2), "sigmoid")[:, 0].tolist() == pytest.approx([0.0, 0.5])


@every_engine
@every_recipe
def test_a_weight_that_is_not_a_number_propagates(engine: Engine, recipe: Recipe) -> None:
    model = initial_parameters(1, 5, 3, 2)
    model.W1[2, 1] = np.nan
    data = engine.load(np.full((2, 5), 9, np.uint8), np.zeros(2, np.uint8), 2)
    (after,) = data.advance([model], [unmoved(np.array([[0, 1]]), 0.1)], recipe)
    assert np.isnan(after.W2).any()


@every_engine
def test_mean_bias_gradients_are_the_sums_over_the_batch_size_and_leave_the_weights_alone(engine: Engine) -> None:
    draw = np.random.RandomState(0)
    model = initial_parameters(1, 20, 5, 3)
    data = engine.load(pixels("dense", 4, 20, draw), np.array([0, 1, 2, 0], np.uint8), 3)
    batches = [unmoved(np.arange(4)[np.newaxis], 1024.0)]
    (summed,) = data.advance([model], batches, Recipe(bias_gradient="sum"))
    (mean,) = data.advance([model], batches, Recipe(bias_gradient="mean"))
    for before, a, b in zip(model[1::2], summed[1::2], mean[1::2], strict=True):
        np.testing.assert_allclose(b - before, (a - before) / 4, rtol=1e-5)
    assert np.array_equal(summed.W1, mean.W1)
    assert np.array_equal(summed.W2, mean.W2)


@every_engine
def test_the_arguments_of_an_engine_are_not_changed(engine: Engine) -> None:
    draw = np.random.RandomState(0)
    model, images = initial_parameters(1, 12, 5, 3), pixels("digits", 6, 12, draw)
    labels, batches = draw.randint(3, size=6).astype(np.uint8), unmoved(np.arange(6).reshape(3, 2), 0.5)
    given_: list[npt.NDArray[Any]] = [*model, images, labels, *batches]
    before = [array.copy() for array in given_]
    for array in given_:
        array.flags.writeable = False
    data = engine.load(images, labels, 3)
    (after,) = data.advance([model], [batches], LAB)
    data.predict(after, "sigmoid")
    assert all(np.array_equal(a, b) for a, b in zip(given_, before, strict=True))
    assert not np.array_equal(after.W1, model.W1)


@every_engine
@pytest.mark.parametrize("gap", [246, 247, 248, 255, 256, 257, 500, 2000])
def test_pixels_far_apart_are_each_at_their_position(engine: Engine, gap: int) -> None:
    images = np.zeros((2, gap + 9), np.uint8)
    images[0, [0, gap]] = images[1, [gap, gap + 8]] = [100, 255]
    assert_gradients_match(engine, initial_parameters(1, gap + 9, 3, 2), images, np.array([0, 1], np.uint8), 2)


def test_the_cpu_engine_stays_close_to_the_reference_over_500_steps() -> None:
    """Both in float32, compared with float64: the CPU engine's error is at most five times that of the reference."""
    draw = np.random.RandomState(3)
    model, images = initial_parameters(1, 784, 30, 10), pixels("digits", 300, 784, draw)
    labels, order = draw.randint(10, size=300).astype(np.uint8), draw.randint(300, size=(500, 10)).astype(np.int64)
    reference, cpu = (engine.load(images, labels) for engine in (ReferenceEngine(), CpuEngine()))
    exact, rounded, found = (
        data.advance([start], [unmoved(order, 0.05)], LAB)[0]
        for data, start in (
            (reference, model.map(lambda array: array.astype("float64"))),
            (reference, model),
            (cpu, model),
        )
    )
    for a, b, c in zip(found, rounded, exact, strict=True):
        assert np.abs(a - c).max() <= 5 * np.abs(b - c).max()
        assert np.abs(a - c).max() <= 1e-4 * np.abs(c).max()


def moved(images: UInt8Array, width: int, down: int, right: int) -> UInt8Array:
    """Move images whose margins are wide enough, in two dimensions."""
    return np.roll(images.reshape(len(images), -1, width), (down, right), (1, 2)).reshape(images.shape)


@every_engine
@every_precision
@every_recipe
@pytest.mark.parametrize("hidden", [5, 33])
def test_an_image_that_is_moved_trains_as_the_moved_image_does(
    engine: Engine, dtype: str, recipe: Recipe, hidden: int
) -> None:
    """Each example of each step by another distance; one image has gaps of more than 247 zero pixels."""
    width, classes, draw = 28, 4, np.random.RandomState(2)
    grid = pixels("digits", 12, width * width, draw).reshape(12, width, width)
    grid[:, :4] = grid[:, -4:] = grid[:, :, :4] = grid[:, :, -4:] = 0
    grid[3] = 0
    grid[3, [4, 20], [5, 22]] = 200
    images, labels = grid.reshape(12, -1), draw.randint(classes, size=12).astype(np.uint8)
    model: Model = network(1, width * width, hidden, classes, recipe).map(lambda array: array.astype(dtype))
    rows, shifts = np.arange(12).reshape(3, 4), draw.randint(-3, 4, size=(12, 2))
    offsets = (shifts @ (width, 1)).astype(np.int32).reshape(3, 4)
    by_hand = np.concatenate([moved(images[[row]], width, *shift) for row, shift in enumerate(shifts.tolist())])
    batches = unmoved(rows, 0.05)
    (found,) = engine.load(images, labels, classes).advance([model], [batches._replace(offsets=offsets)], recipe)
    (expected,) = engine.load(by_hand, labels, classes).advance([model], [batches], recipe)
    (fixed,) = engine.load(images, labels, classes).advance([model], [batches], recipe)
    limit = 1e-5 if dtype == "float32" else 1e-13  # the pixels of one image are added in other groups of four
    for a, b, c in zip(found, expected, fixed, strict=True):
        assert np.abs(a - b).max() <= limit * np.abs(b).max()
        assert not np.array_equal(b, c)


@every_engine
@every_recipe
def test_each_step_has_its_own_learning_rate(engine: Engine, recipe: Recipe) -> None:
    draw = np.random.RandomState(0)
    images, labels = pixels("digits", 9, 20, draw), draw.randint(3, size=9).astype(np.uint8)
    data, start, rows = engine.load(images, labels, 3), network(1, 20, 5, 3, recipe), np.arange(9).reshape(3, 3)
    rates = np.array([0.5, 0.25, 0.0])
    (found,) = data.advance([start], [Batches(rows, np.zeros((3, 3), np.int32), rates)], recipe)
    (first,) = data.advance([start], [unmoved(rows[:1], 0.5)], recipe)
    (second,) = data.advance([first], [unmoved(rows[1:2], 0.25)], recipe)
    assert all(np.array_equal(a, b) for a, b in zip(found, second, strict=True))
    assert not np.array_equal(found.W1, first.W1)


@every_precision
@every_recipe
@pytest.mark.parametrize(("inputs", "hidden", "classes"), [(784, 30, 10), (784, 128, 10), (17, 33, 17)])
@pytest.mark.parametrize("count", [1, 40, 41])
def test_both_engines_predict_the_same_with_either_scale_for_any_number_of_images(
    count: int, inputs: int, hidden: int, classes: int, dtype: str, recipe: Recipe
) -> None:
    images = pixels("digits", count, inputs, np.random.RandomState(0))
    model: Model = network(3, inputs, hidden, classes, recipe).map(lambda array: array.astype(dtype))
    for scale in (1 / 255, 1):
        by_reference, by_cpu = (
            each.load(images, np.zeros(count, np.uint8), classes).predict(model, recipe.activation, scale)
            for each in (ReferenceEngine(), CpuEngine())
        )
        limit = 1e-4 if dtype == "float32" else 1e-12
        assert np.abs(by_cpu - by_reference).max() <= limit
