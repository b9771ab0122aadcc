"""Every engine compared with float64 autograd: gradients, trajectories, and extreme shapes and weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_bp.engines.certificate import gradients_of
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.backprop import forward, loss
from mnist_bp.model.parameters import FloatArray, IntArray, Model, Parameters, UInt8Array, initial_parameters
from tests.support.networks import CPU_ENGINES

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


def autograd(model: Model, images: UInt8Array, labels: UInt8Array, classes: int) -> Model:
    leaves = Parameters(*(torch.from_numpy(array.astype(np.float64)).requires_grad_() for array in model))
    t = torch.eye(classes, dtype=torch.float64)[torch.from_numpy(labels).long()]
    total = loss(forward(leaves, torch.from_numpy(images).double() / 255).a2, t)
    return Parameters(*(gradient.numpy() for gradient in torch.autograd.grad(total, leaves)))


def assert_gradients_match(
    engine: Engine, model: Model, images: UInt8Array, labels: UInt8Array, classes: int, at_least: float = 0.0
) -> None:
    """Compare gradients with autograd's, relative to the largest entry, or to `at_least` if that is larger."""
    dtype = model.W1.dtype.name
    found = gradients_of(engine.load(images, labels, classes), model, np.arange(len(images)))
    judge = autograd(model, images, labels, classes)
    for name, gradient, expected in zip(Parameters._fields, found, judge, strict=True):
        assert gradient.shape == expected.shape
        assert np.isfinite(gradient).all(), name
        error = np.abs(gradient - expected).max()
        assert error <= LIMIT[dtype] * max(np.abs(expected).max(), at_least), f"d{name} in {dtype}: {error}"


@every_engine
@every_precision
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), SHAPES)
def test_every_gradient_matches_autograd(
    engine: Engine, dtype: str, inputs: int, hidden: int, classes: int, batch: int
) -> None:
    draw = np.random.RandomState(0)
    model: Model = initial_parameters(2, inputs, hidden, classes).map(lambda array: array.astype(dtype))
    images, labels = pixels("digits", batch, inputs, draw), draw.randint(classes, size=batch).astype(np.uint8)
    images[0] = 7  # images of zeros would agree with any wrong gradient
    assert all(np.abs(gradient).max() > 0 for gradient in autograd(model, images, labels, classes))
    assert_gradients_match(engine, model, images, labels, classes)


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
)
def test_every_gradient_matches_autograd_for_any_shape_and_any_pixels(
    engine: Engine, dtype: str, seed: int, inputs: int, hidden: int, classes: int, batch: int, kind: Kind
) -> None:
    draw = np.random.RandomState(seed)
    # as in the certificate, weights that do not saturate the sigmoids, which magnifies the rounding of z1
    model: Model = initial_parameters(seed, inputs, hidden, classes).map(lambda array: (array / 8).astype(dtype))
    images, labels = pixels(kind, batch, inputs, draw), draw.randint(classes, size=batch).astype(np.uint8)
    # the gradients of equal images with different labels cancel, their rounding errors do not
    assert_gradients_match(engine, model, images, labels, classes, at_least=0.05)


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
    found = gradients_of(engine.load(images, labels, classes), model, np.arange(batch))
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
    assert data.predict(model)[:, 0].tolist() == pytest.approx([1.0, 0.5])
    assert data.predict(model._replace(W2=-model.W2))[:, 0].tolist() == pytest.approx([0.0, 0.5])


@every_engine
def test_a_weight_that_is_not_a_number_propagates(engine: Engine) -> None:
    model = initial_parameters(1, 5, 3, 2)
    model.W1[2, 1] = np.nan
    data = engine.load(np.full((2, 5), 9, np.uint8), np.zeros(2, np.uint8), 2)
    (after,) = data.advance([model], [np.array([[0, 1]])], learning_rate=0.1, bias_gradient="mean")
    assert np.isnan(after.W2).any()


@every_engine
def test_mean_bias_gradients_are_the_sums_over_the_batch_size_and_leave_the_weights_alone(engine: Engine) -> None:
    draw = np.random.RandomState(0)
    model = initial_parameters(1, 20, 5, 3)
    data = engine.load(pixels("dense", 4, 20, draw), np.array([0, 1, 2, 0], np.uint8), 3)
    batches: list[IntArray] = [np.arange(4)[np.newaxis]]
    (summed,) = data.advance([model], batches, learning_rate=1024.0, bias_gradient="sum")
    (mean,) = data.advance([model], batches, learning_rate=1024.0, bias_gradient="mean")
    for before, a, b in zip(model[1::2], summed[1::2], mean[1::2], strict=True):
        np.testing.assert_allclose(b - before, (a - before) / 4, rtol=1e-5)
    assert np.array_equal(summed.W1, mean.W1)
    assert np.array_equal(summed.W2, mean.W2)


@every_engine
def test_the_arguments_of_an_engine_are_not_changed(engine: Engine) -> None:
    draw = np.random.RandomState(0)
    model, images = initial_parameters(1, 12, 5, 3), pixels("digits", 6, 12, draw)
    labels, order = draw.randint(3, size=6).astype(np.uint8), np.arange(6).reshape(3, 2)
    given_: list[FloatArray | UInt8Array | IntArray] = [*model, images, labels, order]
    before = [array.copy() for array in given_]
    for array in given_:
        array.flags.writeable = False
    data = engine.load(images, labels, 3)
    (after,) = data.advance([model], [order], learning_rate=0.5, bias_gradient="mean")
    data.predict(after)
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
        data.advance([start], [order], learning_rate=0.05, bias_gradient="mean")[0]
        for data, start in (
            (reference, model.map(lambda array: array.astype("float64"))),
            (reference, model),
            (cpu, model),
        )
    )
    for a, b, c in zip(found, rounded, exact, strict=True):
        assert np.abs(a - c).max() <= 5 * np.abs(b - c).max()
        assert np.abs(a - c).max() <= 1e-4 * np.abs(c).max()
