"""The certificate passes correct engines, and detects every kind of error: each test plants one in a correct engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mnist_bp.engines import reference
from mnist_bp.engines.certificate import certify
from mnist_bp.engines.certificate_record import Certificate
from mnist_bp.engines.cpu import CpuData, CpuEngine
from mnist_bp.engines.interface import PIXEL_SCALE, Batches, Engine, ResidentData
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import CertificateError
from mnist_bp.model import backprop
from mnist_bp.model.parameters import FloatArray, Model, Parameters, UInt8Array
from mnist_bp.model.recipe import Activation, Recipe

BOTH = ("float32", "float64")
RELU = Recipe(initial="scaled", loss="cross_entropy", activation="relu", bias_gradient="sum")
MOVED = replace(RELU, shift=2)

Advance = Callable[[ResidentData, Sequence[Model], Sequence[Batches], Recipe], list[Model]]
Predict = Callable[[ResidentData, Model, Activation, float], FloatArray]


def right_advance(
    data: ResidentData, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe
) -> list[Model]:
    return data.advance(models, batches, recipe)


def right_predict(data: ResidentData, model: Model, activation: Activation, scale: float) -> FloatArray:
    return data.predict(model, activation, scale)


@dataclass(frozen=True)
class Wrong:
    """The cpu engine with an error in one of its three functions."""

    advance: Advance = right_advance
    predict: Predict = right_predict
    images: Callable[[UInt8Array], UInt8Array] = np.ndarray.copy
    packed: Callable[[CpuData], CpuData] = replace
    name: str = "wrong"
    device: str = "cpu"

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ResidentData:
        return WrongData(self, self.packed(CpuEngine().load(self.images(images), labels, classes)))


@dataclass(frozen=True)
class WrongData:
    engine: Wrong
    right: ResidentData

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        return self.engine.advance(self.right, models, batches, recipe)

    def predict(self, model: Model, activation: Activation, scale: float = PIXEL_SCALE) -> FloatArray:
        return self.engine.predict(self.right, model, activation, scale)


def after_each(change: Callable[[Model, Model], Model]) -> Wrong:
    """Change the weights that a call returns, given those that it was called with."""

    def advance(data: ResidentData, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        return [
            change(before, after) for before, after in zip(models, data.advance(models, batches, recipe), strict=True)
        ]

    return Wrong(advance)


def with_batches(change: Callable[[Batches], Batches]) -> Wrong:
    """Train on other batches."""
    return Wrong(lambda data, models, batches, recipe: data.advance(models, list(map(change, batches)), recipe))


def with_recipe(**changes: Any) -> Wrong:
    """Train with another recipe."""
    return Wrong(lambda data, models, batches, recipe: data.advance(models, batches, replace(recipe, **changes)))


def failures(engine: Engine, **settings: Any) -> str:
    return "; ".join(certify(engine, **settings).failures)


def drift(certificate: Certificate) -> float:
    return max(errors["engine"] / certificate.max_drift(errors) for errors in certificate.weights.values())


@pytest.mark.parametrize(("hidden", "batch_size"), [(30, 10), (1, 1), (33, 7), (128, 128), (200, 1), (1, 1024)])
@pytest.mark.parametrize("recipe", [Recipe(), RELU, MOVED], ids=["lab", "relu", "moved"])
def test_the_cpu_engine_is_certified(hidden: int, batch_size: int, recipe: Recipe) -> None:
    certificate = certify(CpuEngine(), hidden=hidden, batch_size=batch_size, recipe=recipe, precisions=BOTH)
    certificate.check()
    assert certificate.record["passed"]
    assert "certified: gradients within" in certificate.summary
    assert [set(certificate.gradients[dtype]) for dtype in BOTH] == [{"W1", "b1", "W2", "b2"}] * 2
    assert drift(certificate) < 0.2


@pytest.mark.parametrize("recipe", [Recipe(), MOVED], ids=["lab", "moved"])
def test_the_reference_engine_is_certified(recipe: Recipe) -> None:
    certify(ReferenceEngine(), recipe=recipe).check()


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2"])
@pytest.mark.parametrize("factor", [0.0, 1 + 1e-5, -1.0, float("nan")])
def test_a_wrong_gradient_of_any_parameter_is_named(name: str, factor: float) -> None:
    def change(before: Model, after: Model) -> Model:
        step = getattr(after, name) - getattr(before, name)
        return after._replace(**{name: (getattr(before, name) + step * factor).astype(step.dtype)})

    certificate = certify(after_each(change), steps=1)
    with pytest.raises(CertificateError, match=rf"the wrong engine fails its certificate: d{name} in float32 differs"):
        certificate.check()
    assert not certificate.record["passed"]
    assert "NOT certified" in certificate.summary


@pytest.mark.parametrize("row", [0, 400, 783])
def test_a_single_weight_that_is_never_updated_is_detected(row: int) -> None:
    def change(before: Model, after: Model) -> Model:
        after.W1[row, 12] = before.W1[row, 12]
        return after

    assert "dW1 in float32" in failures(after_each(change), steps=1)


@pytest.mark.parametrize("hidden", [129, 1_024])
def test_units_beyond_the_first_128_that_are_never_updated_are_detected(hidden: int) -> None:
    def change(before: Model, after: Model) -> Model:
        after.W2[128:] = before.W2[128:]
        return after

    assert "dW2 in float32" in failures(after_each(change), hidden=hidden, steps=1)


def test_examples_beyond_the_first_128_of_a_batch_that_are_skipped_are_detected() -> None:
    def cut(batches: Batches) -> Batches:
        return batches._replace(rows=batches.rows[:, :128], offsets=batches.offsets[:, :128])

    assert "dW1 in float32" in failures(with_batches(cut), batch_size=1_024, steps=1)


@pytest.mark.parametrize("bits", [8, 15])
def test_row_numbers_of_too_few_bits_are_detected(bits: int) -> None:
    """An epoch of MNIST has row numbers of 16 bits."""
    wrong = with_batches(lambda batches: batches._replace(rows=batches.rows % 2**bits))
    assert "dW1 in float32" in failures(wrong, steps=1)


@pytest.mark.parametrize("shift", range(4))
def test_packed_pixels_whose_values_are_lost_beyond_a_position_of_16_bits_are_detected(shift: int) -> None:
    """The positions of MNIST have 22 bits."""
    distances = np.uint64(0x00FF_00FF_00FF_00FF)  # without them, moved images would leave the memory of the weights

    def cut(data: CpuData) -> CpuData:
        return replace(data, words=np.where(np.arange(len(data.words)) < 2**16, data.words, data.words & distances))

    found = failures(Wrong(packed=cut), recipe=replace(RELU, shift=shift))
    assert "W1 after 100 steps" in found
    assert "predictions in float32" in found


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("recipe", [Recipe(), MOVED], ids=["lab", "moved"])
def test_images_that_are_cut_at_a_gap_of_more_than_247_zero_pixels_are_detected(
    batch_size: int, recipe: Recipe
) -> None:
    def cut(images: UInt8Array) -> UInt8Array:
        gaps: Any = np.lib.stride_tricks.sliding_window_view(images[:2_000] != 0, 248, axis=1).any(2)
        images = images.copy()
        for image, filled in zip(images, gaps, strict=False):
            if image.any() and not filled.all():
                image[int(filled.argmin()) :] = 0
        return images

    assert "dW1 in float32" in failures(Wrong(images=cut), batch_size=batch_size, recipe=recipe, steps=1)


@pytest.mark.parametrize(
    "predict",
    [
        lambda data, model, activation, scale: data.predict(model, activation, scale)[:, ::-1],
        lambda data, model, activation, scale: np.roll(data.predict(model, activation, scale), 1, axis=0),
        lambda data, model, activation, scale: data.predict(model, activation, PIXEL_SCALE),
        lambda data, model, activation, scale: data.predict(model, activation, 1.0),
        lambda data, model, activation, scale: data.predict(model, "sigmoid", scale),
        lambda data, model, activation, scale: data.predict(model, activation, scale) * np.float32(1 + 1e-5),
    ],
    ids=["classes reversed", "rows shifted", "scale 1/255 alone", "scale 1 alone", "activation ignored", "factor"],
)
def test_wrong_predictions_are_detected(predict: Predict) -> None:
    found = certify(Wrong(predict=predict), recipe=RELU, steps=1).failures
    assert found
    assert all("predictions in float32" in failure for failure in found)


@pytest.mark.parametrize("of", [0, -1])
def test_models_that_are_trained_on_the_examples_of_one_of_them_are_detected(of: int) -> None:
    wrong = Wrong(lambda data, models, batches, recipe: data.advance(models, [batches[of]] * len(batches), recipe))
    assert failures(wrong) == "one call for two models ends in other bits than a call for each"


@pytest.mark.parametrize(
    "change",
    [
        lambda batches: Batches(*(each[:1_000] for each in batches)),
        lambda batches: batches._replace(rows=np.concatenate([batches.rows[:100], batches.rows[:-100]])),
        lambda batches: batches._replace(rates=np.where(np.arange(len(batches.rates)) < 256, batches.rates, 0.5)),
    ],
    ids=["ends after 1,000 steps", "begins again after 100 steps", "rates of 256 steps alone"],
)
def test_errors_of_calls_longer_than_100_steps_are_detected(change: Callable[[Batches], Batches]) -> None:
    assert failures(with_batches(change)) == "one call for many steps ends in other bits than many calls"


def test_units_beyond_the_first_128_that_only_the_first_step_of_a_call_updates_are_detected() -> None:
    """An engine may keep its weights twice; a call of one step does not show whether it updates both."""

    def advance(data: ResidentData, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        after = data.advance(models, batches, recipe)
        after_first = data.advance(models, [each.steps(0, 1) for each in batches], recipe)
        return [
            model._replace(W2=np.concatenate([model.W2[:128], first.W2[128:]]))
            for model, first in zip(after, after_first, strict=True)
        ]

    assert failures(Wrong(advance), hidden=129) == "one call for many steps ends in other bits than many calls"


def test_examples_beyond_the_first_128_of_a_batch_that_only_the_first_step_of_a_call_uses_are_detected() -> None:
    def repeat(batches: Batches) -> Batches:
        rows = batches.rows.copy()
        rows[1:, 128:] = rows[1:, :1]
        return batches._replace(rows=rows)

    wrong = with_batches(repeat)
    assert failures(wrong, batch_size=129) == "one call for many steps ends in other bits than many calls"


def test_the_learning_rate_of_the_first_step_for_all_steps_is_detected() -> None:
    def constant(batches: Batches) -> Batches:
        return batches._replace(rates=np.full_like(batches.rates, batches.rates[0]))

    found = failures(with_batches(constant))
    assert all(f"{name} after 100 steps" in found for name in Parameters._fields)


@pytest.mark.parametrize(
    ("change", "recipe"),
    [
        ({"loss": "squared_error"}, RELU),
        ({"activation": "sigmoid"}, RELU),
        ({"loss": "cross_entropy"}, Recipe()),
        ({"activation": "relu"}, Recipe()),
    ],
    ids=str,
)
def test_another_form_of_an_equation_is_detected(change: dict[str, Any], recipe: Recipe) -> None:
    assert "dW2 in float32" in failures(with_recipe(**change), recipe=recipe, steps=1)


@pytest.mark.parametrize(
    "change",
    [lambda offsets: 0 * offsets, lambda offsets: -offsets, lambda offsets: offsets[:, ::-1]],
    ids=["ignored", "negated", "of other examples"],
)
def test_images_that_are_moved_wrongly_are_detected(change: Callable[[Any], Any]) -> None:
    wrong = with_batches(lambda batches: batches._replace(offsets=change(batches.offsets)))
    assert "dW1 in float32" in failures(wrong, recipe=MOVED, steps=1)


def test_a_bias_gradient_with_the_wrong_reduction_is_detected_on_the_trajectory() -> None:
    certificate = certify(with_recipe(bias_gradient="sum"))
    assert not any("in float32" in failure for failure in certificate.failures)
    assert any("after 100 steps" in failure for failure in certificate.failures)
    assert drift(certificate) > 1_000


def test_rounding_worse_than_that_of_float32_is_detected_on_the_trajectory() -> None:
    def change(before: Model, after: Model) -> Model:
        with np.errstate(over="ignore"):
            return after.map(lambda array: array.astype(np.float16).astype(array.dtype))

    assert "after 100 steps" in failures(after_each(change))


def test_a_sigmoid_that_is_wrong_in_the_same_way_in_both_passes_is_detected_in_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Autograd of `backprop.forward` would agree with it."""

    def forward(parameters: Any, x: Any, activation: Activation) -> backprop.Activations:
        return backprop.forward(parameters._replace(W2=2 * parameters.W2, b2=2 * parameters.b2), x, activation)

    def backward(parameters: Any, x: Any, activations: Any, t: Any, recipe: Recipe) -> backprop.Gradients:
        doubled = parameters._replace(W2=2 * parameters.W2)
        found = backprop.backward(doubled, x, activations, t, recipe)
        return found._replace(dW2=2 * found.dW2, db2=2 * found.db2)

    monkeypatch.setattr(reference, "forward", forward)
    monkeypatch.setattr(reference, "backward", backward)
    found = failures(ReferenceEngine(), steps=1)
    assert "dW2 in float32" in found
    assert "predictions in float32" in found


@pytest.mark.parametrize("recipe", [Recipe(), RELU], ids=["lab", "relu"])
def test_a_loss_that_is_wrong_in_the_same_way_in_both_passes_is_detected_in_the_reference(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autograd of `backprop.loss` would agree with it."""
    loss, backward = backprop.loss, backprop.backward
    monkeypatch.setattr(backprop, "loss", lambda *arguments: 2 * loss(*arguments))
    monkeypatch.setattr(
        reference, "backward", lambda *arguments: backprop.Gradients(*(2 * each for each in backward(*arguments)))
    )
    found = failures(ReferenceEngine(), recipe=recipe, steps=1)
    assert "dW1 in float32" in found
    assert "the loss of backprop.py differs from its definition by 1.0e+00" in found


def test_a_reference_with_the_learning_rate_of_the_first_step_for_all_steps_is_detected() -> None:
    """The trajectory that engines are compared with does not come from the reference engine."""

    @dataclass(frozen=True)
    class ConstantRate:
        name: str = "reference"
        device: str = "cpu"

        def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ResidentData:
            return WrongData(
                with_batches(lambda batches: batches._replace(rates=np.full_like(batches.rates, batches.rates[0]))),
                ReferenceEngine().load(images, labels, classes),
            )

    assert "W1 after 100 steps" in failures(ConstantRate())
