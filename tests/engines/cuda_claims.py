"""Properties of the CUDA engine, which `test_cuda` checks both in Triton's interpreter and on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench import gpu
from mnist_bp.engines import cuda_kernel
from mnist_bp.engines.cuda import CudaEngine
from mnist_bp.engines.interface import Batches, ResidentData, unmoved
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import IntArray, Model, UInt8Array, initial_parameters
from mnist_bp.model.recipe import Activation, Recipe
from tests.engines.test_engines import KINDS, Kind, assert_gradients_match, pixels
from tests.support.networks import LAB, RECIPES

ENGINE = CudaEngine()
SHAPES = [  # inputs, hidden, classes, batch
    (784, 30, 10, 10),
    (784, 32, 10, 1),
    (17, 5, 3, 4),
    (1, 1, 2, 1),
    (3, 1, 1, 1),
    (129, 33, 17, 16),
    (256, 128, 32, 3),
]

every_precision = pytest.mark.parametrize("dtype", ["float32", "float64"])


def network(inputs: int, hidden: int, classes: int, dtype: str = "float32", seed: int = 2) -> Model:
    return initial_parameters(seed, inputs, hidden, classes).map(lambda array: array.astype(dtype))


def digits(count: int, inputs: int, classes: int, kind: Kind = "digits") -> tuple[UInt8Array, UInt8Array]:
    draw = np.random.RandomState(count)
    return pixels(kind, count, inputs, draw), draw.randint(classes, size=count).astype(np.uint8)


def order(steps: int, batch: int, count: int, seed: int = 0) -> IntArray:
    return np.random.RandomState(seed).randint(count, size=(steps, batch)).astype(np.int64)


def falling(rows: IntArray) -> Batches:
    """Batches with another learning rate in each step, each the same wherever the steps are split."""
    return Batches(rows, np.zeros(rows.shape, np.int32), 0.3 / (1 + rows[:, 0] / 20))


def trained(data: ResidentData, models: list[Model], batches: list[IntArray], recipe: Recipe = LAB) -> list[Model]:
    return data.advance(models, [falling(rows) for rows in batches], recipe)


def assert_same_bits(found: Model, expected: Model) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


@every_precision
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), SHAPES)
def test_every_gradient_matches_autograd(inputs: int, hidden: int, classes: int, batch: int, dtype: str) -> None:
    images, labels = digits(batch, inputs, classes)
    images[0] = 7
    # On a GPU, the sigmoid has fewer digits, which shows where all gradients are small.
    at_least = 0.0 if cuda_kernel.INTERPRETED else 0.05
    assert_gradients_match(ENGINE, network(inputs, hidden, classes, dtype), images, labels, classes, at_least)


@every_precision
@pytest.mark.parametrize("kind", KINDS)
def test_every_gradient_matches_autograd_for_any_pixels(kind: Kind, dtype: str) -> None:
    images, labels = digits(3, 21, 4, kind)
    assert_gradients_match(ENGINE, network(21, 6, 4, dtype), images, labels, 4, at_least=0.05)


@settings(max_examples=8, deadline=None)
@given(
    inputs=st.integers(1, 512), hidden=st.integers(1, 40), classes=st.integers(1, 32), batch=st.integers(1, 9),
    kind=st.sampled_from(KINDS),
)  # fmt: skip
def test_every_gradient_matches_autograd_for_any_shape(
    inputs: int, hidden: int, classes: int, batch: int, kind: Kind
) -> None:
    """In float64, where a wrong sum is distinguishable from rounding however large the sums are."""
    images, labels = digits(batch, inputs, classes, kind)
    assert_gradients_match(ENGINE, network(inputs, hidden, classes, "float64"), images, labels, classes, at_least=1e-3)


@pytest.mark.parametrize("recipe", [LAB, *RECIPES], ids=str)
@pytest.mark.parametrize(("inputs", "hidden", "classes", "batch"), [(17, 5, 3, 4), (6, 1, 2, 1), (150, 30, 10, 6)])
def test_many_steps_give_the_weights_of_the_reference_engine(
    inputs: int, hidden: int, classes: int, batch: int, recipe: Recipe
) -> None:
    """In float64, where only the order of sums differs; errors in padded units would appear from the second step on."""
    images, labels = digits(20, inputs, classes)
    start, batches = network(inputs, hidden, classes, "float64"), order(6, batch, 20)
    (found,), (expected,) = (
        trained(engine.load(images, labels, classes), [start], [batches], recipe)
        for engine in (ENGINE, ReferenceEngine())
    )
    for a, b, before in zip(found, expected, start, strict=True):
        assert np.abs(a - b).max() <= 1e-12 * np.abs(b - before).max()


def test_models_trained_side_by_side_are_bit_identical_to_models_trained_alone() -> None:
    data = ENGINE.load(*digits(20, 30, 4), 4)
    models = [network(30, 7, 4, seed=seed) for seed in (1, 2, 3)]
    batches = [order(3, 3, 20, seed) for seed in (1, 2, 3)]
    together = trained(data, models, batches)
    for model, each, found in zip(models, batches, together, strict=True):
        assert_same_bits(found, trained(data, [model], [each])[0])
    assert not np.array_equal(together[0].W1, together[1].W1)


def test_a_rerun_and_a_run_split_in_two_are_bit_identical() -> None:
    data, start, batches = ENGINE.load(*digits(20, 30, 4), 4), network(30, 7, 4), order(4, 3, 20)
    (once,), (again,) = trained(data, [start], [batches]), trained(data, [start], [batches])
    (halfway,) = trained(data, [start], [batches[:1]])
    (resumed,) = trained(data, [halfway], [batches[1:]])
    assert_same_bits(again, once)
    assert_same_bits(resumed, once)


@every_precision
@pytest.mark.parametrize("scale", [1e-30, 1e3, 1e6])
def test_saturated_units_stay_finite(scale: float, dtype: str) -> None:
    data, start = ENGINE.load(*digits(9, 30, 4, "dense"), 4), network(30, 7, 4, dtype)
    (after,) = trained(data, [start.map(lambda array: array * array.dtype.type(scale))], [order(3, 3, 9)])
    assert all(np.isfinite(array).all() for array in after)
    assert np.isfinite(data.predict(after, "sigmoid")).all()


def test_a_weight_that_is_not_a_number_propagates() -> None:
    start = network(5, 3, 2)
    start.W1[2, 1] = np.nan
    (after,) = trained(ENGINE.load(np.full((2, 5), 9, np.uint8), np.zeros(2, np.uint8), 2), [start], [order(1, 2, 2)])
    assert np.isnan(after.W2).any()


def test_the_arguments_of_the_engine_are_not_changed() -> None:
    start, batches, (images, labels) = network(12, 5, 3), order(3, 2, 6), digits(6, 12, 3)
    arrays: list[NDArray[Any]] = [*start, batches, images, labels]
    before = [array.copy() for array in arrays]
    (after,) = trained(ENGINE.load(images, labels, 3), [start], [batches])
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    assert not np.array_equal(after.W1, start.W1)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_predictions_are_those_of_the_reference_engine(scale: float, activation: Activation) -> None:
    images, labels = digits(30, 23, 4)
    model = network(23, 5, 4, "float64")
    found, expected = (e.load(images, labels, 4).predict(model, activation, scale) for e in (ENGINE, ReferenceEngine()))
    assert found.shape == (30, 4)
    assert np.abs(found - expected).max() <= 1e-12


def test_rows_beyond_the_first_megabyte_are_addressed_correctly() -> None:
    images, labels = np.zeros((3_000, 400), np.uint8), np.zeros(3_000, np.uint8)
    images[2_999] = 200
    data, start = ENGINE.load(images, labels, 2), network(400, 3, 2)
    (last,) = trained(data, [start], [np.array([[2_999]])])
    (first,) = trained(data, [start], [np.array([[0]])])
    assert np.array_equal(first.W1, start.W1)
    assert not np.array_equal(last.W1, start.W1)


def test_the_data_are_on_the_device_that_the_engine_names() -> None:
    data = ENGINE.load(*digits(6, 12, 3), 3)
    assert data.resident.images.device.type == ENGINE.device
    assert data.resident.images.dtype == torch.uint8


def test_the_benchmark_times_one_model_and_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "INPUTS", 20)
    monkeypatch.setattr(gpu, "IMAGES", 50)
    gpu.print_times(ENGINE, models=[1, 2], steps=2, runs=1)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert [row[0] for row in rows] == ["us/step,", "cuda", "eager", "times", "models/s,", "cuda", "cuda", "eager"]
    assert all(float(row[-1].replace(",", "")) >= 0 for row in rows if row[0] in ("cuda", "eager"))


def test_moved_images_are_refused_in_one_line() -> None:
    data, batches = ENGINE.load(*digits(4, 30, 4), 4), unmoved(order(1, 2, 4), 0.3)
    with pytest.raises(
        ConfigError, match="engine cuda does not move images: expected offsets of 0; use the engine cpu"
    ):
        data.advance([network(30, 7, 4)], [batches._replace(offsets=batches.offsets + 1)], LAB)
