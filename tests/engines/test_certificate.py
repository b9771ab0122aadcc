"""The certificate passes correct engines, and detects every kind of error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mnist_bp.engines.certificate import certify
from mnist_bp.engines.interface import Engine, ResidentData
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import CertificateError
from mnist_bp.model.parameters import BiasGradient, FloatArray, IntArray, Model, UInt8Array
from tests.support.networks import CPU_ENGINES

BOTH = ("float32", "float64")


@dataclass(frozen=True)
class Wrong:
    """The reference engine with one error."""

    change: Callable[[Model, Model], Model]
    bias_gradient: BiasGradient | None = None
    name: str = "wrong"
    device: str = "cpu"

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ResidentData:
        return WrongData(self, ReferenceEngine().load(images, labels, classes))


@dataclass(frozen=True)
class WrongData:
    engine: Wrong
    right: ResidentData

    def advance(self, models: Sequence[Model], batches: Sequence[IntArray], **settings: Any) -> list[Model]:
        if self.engine.bias_gradient:
            settings["bias_gradient"] = self.engine.bias_gradient
        after = self.right.advance(models, batches, **settings)
        return [self.engine.change(before, each) for before, each in zip(models, after, strict=True)]

    def predict(self, model: Model, scale: float = 1.0) -> FloatArray:
        return self.right.predict(model, scale)


def same(_: Model, after: Model) -> Model:
    return after


@pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize(("hidden", "batch_size"), [(30, 10), (1, 1), (33, 7), (100, 1), (128, 128)])
def test_our_engines_are_certified(engine: Engine, hidden: int, batch_size: int) -> None:
    certificate = certify(engine, hidden=hidden, batch_size=batch_size, precisions=BOTH)
    certificate.check()
    assert certificate.record["passed"]
    assert "certified: gradients within" in certificate.summary
    assert [set(certificate.gradients[dtype]) for dtype in BOTH] == [{"W1", "b1", "W2", "b2"}] * 2


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2"])
@pytest.mark.parametrize("factor", [0.0, 1 + 1e-5, -1.0, float("nan")])
def test_a_wrong_gradient_of_any_parameter_is_named(name: str, factor: float) -> None:
    def change(before: Model, after: Model) -> Model:
        step = getattr(after, name) - getattr(before, name)
        return after._replace(**{name: (getattr(before, name) + step * factor).astype(step.dtype)})

    certificate = certify(Wrong(change), steps=1)
    with pytest.raises(CertificateError, match=rf"the wrong engine fails its certificate: d{name} in float32 differs"):
        certificate.check()
    assert not certificate.record["passed"]
    assert "NOT certified" in certificate.summary


def test_a_single_weight_that_is_never_updated_is_detected() -> None:
    def change(before: Model, after: Model) -> Model:
        after.W1[400, 12] = before.W1[400, 12]
        return after

    assert certify(Wrong(change), steps=1).failures


def test_a_bias_gradient_with_the_wrong_reduction_is_detected_on_the_trajectory() -> None:
    certificate = certify(Wrong(same, "sum"))
    assert not any("in float32" in failure for failure in certificate.failures)
    assert any("after 100 steps" in failure for failure in certificate.failures)
    assert max(errors["engine"] / certificate.max_drift(errors) for errors in certificate.weights.values()) > 1_000


def test_rounding_worse_than_that_of_float32_is_detected_on_the_trajectory() -> None:
    def change(before: Model, after: Model) -> Model:
        with np.errstate(over="ignore"):
            return after.map(lambda array: array.astype(np.float16).astype(array.dtype))

    assert any("after 100 steps" in failure for failure in certify(Wrong(change)).failures)
