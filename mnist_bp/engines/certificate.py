"""The certificate: a *gradient check* of the engine, before a run's first step, against the equations of `backprop.py`.

It tests two things on synthetic images, through the interface that training uses:

- The gradients. One step along a gradient g at learning rate r leads from q to q' = q - r g. At r = 2**20 (2**40 in
  float64) the step is so much larger than q that (q - q') / r equals g with no digit lost. So the gradients of any
  engine can be measured although no engine returns them. They are compared with autograd in float64, and with the
  reference engine in the same precision.
- The trajectory. After some steps the weights are compared with those of the reference engine in float64. How far
  rounding alone may lead away is measured too: the float64 reference is run again from weights that were each rounded
  once, as float32 rounds them. Each example of each step rounds the weights once more, and n roundings lead sqrt(n)
  times as far, in whatever order an engine adds.

This is the only module of the product that uses autograd, and it uses it only to check.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mnist_bp.engines.interface import Engine, ResidentData, unmoved
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import CertificateError
from mnist_bp.model.backprop import forward, loss
from mnist_bp.model.parameters import (
    CLASSES,
    PIXELS,
    FloatArray,
    IntArray,
    Model,
    Parameters,
    UInt8Array,
    initial_parameters,
)
from mnist_bp.model.recipe import Recipe

GRADIENT_LIMIT: Final[Mapping[str, float]] = {"float32": 2e-6, "float64": 1e-10}
"""Largest allowed error of a parameter's gradient, relative to its largest entry."""

DRIFT_LIMIT: Final = 16.0
"""Largest allowed distance from the float64 trajectory, in multiples of what n roundings explain.

Measured in 104 shapes (1 to 128 hidden units, batches of 1 to 128), the reference and cpu engines end at 0.4 (median)
and 4.6 (maximum); with a bias gradient that is a sum instead of a mean, an engine ends at more than 1,000.
"""

_PROBE_RATE: Final[Mapping[str, float]] = {"float32": 2.0**20, "float64": 2.0**40}
_RATE_TIMES_BATCH: Final = 5.0
"""Product of learning rate and batch size on the trajectory, as in the lab."""

LAB: Final = Recipe()

_EXAMPLES: Final = 256
_NONZERO_SHARE: Final = 0.19
"""Share of nonzero pixels, as in MNIST."""


@dataclass(frozen=True)
class Certificate:
    """The result of the gradient check; errors are relative to the largest expected entry.

    Args:
        engine: Name of the engine.
        device: Device that it computed on.
        shape: `inputs`, `hidden`, `classes` and `batch_size`: D, H, K and B.
        gradients: For each precision and parameter, the errors relative to `autograd` (float64) and the `reference`.
        steps: Length of the trajectory.
        weights: For each parameter, the error of the `engine` after those steps, and the error that `one_rounding` of
            the initial weights grows to.
        seconds: Duration of the check, with the engine ready.
    """

    engine: str
    device: str
    shape: dict[str, int]
    gradients: dict[str, dict[str, dict[str, float]]]
    steps: int
    weights: dict[str, dict[str, float]]
    seconds: float

    @property
    def failures(self) -> list[str]:
        """A sentence for each error beyond its limit."""
        found = [
            f"d{name} in {dtype} differs from {other} by {error:.1e}, limit {GRADIENT_LIMIT[dtype]:.0e}"
            for dtype, parameters in self.gradients.items()
            for name, errors in parameters.items()
            for other, error in errors.items()
            if not error <= GRADIENT_LIMIT[dtype]
        ]
        return found + [
            f"{name} after {self.steps} steps differs from float64 by {errors['engine']:.1e}, "
            f"limit {self.max_drift(errors):.0e}"
            for name, errors in self.weights.items()
            if not errors["engine"] <= self.max_drift(errors)
        ]

    def max_drift(self, errors: dict[str, float]) -> float:
        """Return the limit for the engine's error in an entry of `weights`."""
        roundings = self.steps * self.shape["batch_size"]
        return DRIFT_LIMIT * math.sqrt(roundings) * errors["one_rounding"]

    def check(self) -> None:
        """Check that every error is within its limit.

        Raises:
            CertificateError: States each error beyond its limit.
        """
        if self.failures:
            raise CertificateError(
                f"the {self.engine} engine fails its certificate: {'; '.join(self.failures)}; use the reference "
                "engine, and report this with the output of: mnist-bp certify"
            )

    @property
    def summary(self) -> str:
        """The result in one line."""
        autograd = max(each["autograd"] for errors in self.gradients.values() for each in errors.values())
        drift = max(errors["engine"] for errors in self.weights.values())
        verdict = "NOT certified" if self.failures else "certified"
        return (
            f"{self.engine} engine {verdict}: gradients within {autograd:.1e} of float64 autograd, "
            f"weights within {drift:.1e} after {self.steps} steps"
        )

    @property
    def record(self) -> dict[str, Any]:
        """The certificate as the manifest records it."""
        return {**asdict(self), "limits": self.limits, "passed": not self.failures}

    @property
    def limits(self) -> dict[str, Any]:
        """The limits of the errors."""
        return {"gradients": dict(GRADIENT_LIMIT), "drift": DRIFT_LIMIT}


def certify(
    engine: Engine,
    *,
    hidden: int = 30,
    batch_size: int = 10,
    recipe: Recipe = LAB,
    precisions: tuple[str, ...] = ("float32",),
    steps: int = 100,
) -> Certificate:
    """Check the gradients and the trajectory of an engine.

    Args:
        engine: Engine to check.
        hidden: H of the network that it is checked on.
        batch_size: B.
        recipe: Equations that are checked; the learning rate is chosen here, and the measured bias gradients are always
            sums.
        precisions: Precisions of the measured gradients: `float32`, `float64`, or both.
        steps: Length of the trajectory.
    """
    images, labels = _synthetic_digits(max(_EXAMPLES, batch_size))
    data, reference = engine.load(images, labels, CLASSES), ReferenceEngine().load(images, labels, CLASSES)
    started = time.perf_counter()
    model: Model = initial_parameters(1, PIXELS, hidden, CLASSES)
    batch = np.arange(batch_size)
    small: Model = model.map(lambda array: array / 8)  # a saturated sigmoid magnifies the rounding of z1
    expected = _autograd_gradients(_cast("float64", small), images[batch], labels[batch], recipe)
    gradients = {}
    for dtype in precisions:
        found, by_reference = (gradients_of(each, _cast(dtype, small), batch, recipe) for each in (data, reference))
        gradients[dtype] = {
            name: {"autograd": _error(a, b), "reference": _error(a, c)}
            for name, a, b, c in zip(Parameters._fields, found, expected, by_reference, strict=True)
        }
    rows = np.random.RandomState(1).randint(len(images), size=(steps, batch_size)).astype(np.int64)
    batches = unmoved(rows, _RATE_TIMES_BATCH / batch_size)
    precise = _cast("float64", model)
    exact, after, one_rounding = (
        each.advance([start], [batches], recipe)[0]
        for each, start in ((reference, precise), (data, model), (reference, _rounded(precise)))
    )
    weights = {
        name: {"engine": _error(found, expected), "one_rounding": _error(rounded, expected)}
        for name, found, rounded, expected in zip(Parameters._fields, after, one_rounding, exact, strict=True)
    }
    shape = {"inputs": PIXELS, "hidden": hidden, "classes": CLASSES, "batch_size": batch_size}
    seconds = time.perf_counter() - started
    return Certificate(engine.name, engine.device, shape, gradients, steps, weights, seconds)


def _synthetic_digits(count: int) -> tuple[UInt8Array, UInt8Array]:
    """Generate images as sparse as digits, and labels; the second image is all zero."""
    draw = np.random.RandomState(1)
    images = draw.randint(1, 256, size=(count, PIXELS)) * (draw.random_sample((count, PIXELS)) < _NONZERO_SHARE)
    images[1] = 0  # not the first: a batch of one needs a gradient that is not zero
    return images.astype(np.uint8), draw.randint(CLASSES, size=count).astype(np.uint8)


def _cast(dtype: str, model: Model) -> Model:
    return model.map(lambda array: array.astype(dtype))


def _rounded(model: Model) -> Model:
    """Change every weight by as much as rounding to float32 can, up or down at random."""
    draw = np.random.RandomState(1)
    return model.map(lambda array: array * (1 + 2.0**-24 * draw.choice([-1, 1], array.shape)))


def gradients_of(data: ResidentData, model: Model, batch: IntArray, recipe: Recipe) -> Model:
    """Measure an engine's gradients with one step at a learning rate that makes the weights negligible.

    Args:
        data: A dataset loaded by the engine.
        model: The network.
        batch: Row numbers of the examples, shape (B,).
        recipe: Equations; the bias gradients are sums.

    Returns:
        The gradients of the loss, in float64.
    """
    rate = _PROBE_RATE[model.W1.dtype.name]
    (moved,) = data.advance([model], [unmoved(batch[np.newaxis], rate)], replace(recipe, bias_gradient="sum"))
    return Parameters(*((a.astype(np.float64) - b) / rate for a, b in zip(model, moved, strict=True)))


def _autograd_gradients(model: Model, images: UInt8Array, labels: UInt8Array, recipe: Recipe) -> Model:
    leaves: Parameters[Tensor] = model.map(lambda array: torch.from_numpy(array).requires_grad_())
    x = torch.from_numpy(images).double() / 255
    t = torch.eye(CLASSES, dtype=torch.float64)[torch.from_numpy(labels).long()]
    a2 = forward(leaves, x, recipe.activation).a2
    return Parameters(*(gradient.numpy() for gradient in torch.autograd.grad(loss(a2, t, recipe.loss), leaves)))


def _error(found: FloatArray, expected: FloatArray) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())
