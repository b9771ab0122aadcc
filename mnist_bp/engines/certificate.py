"""The certificate: proof, before a run's first step, that its engine computes the equations of `model/backprop.py`.

Two questions are put to the engine as it will be used, on images made up for the purpose:

- Are its gradients right? One step along a gradient g at learning rate r leads from q to q' = q - r g. At r = 2**20
  (2**40 in float64) the step dwarfs q, so (q - q') / r is g with no digit lost: any engine's gradients can be had
  without asking it for them. They are held to autograd in float64, and to the reference engine in the same precision.
- Does it stay on course? After some steps its weights are held to those of the float64 reference. How far rounding
  alone may lead away is measured in the same moment: the float64 reference is run again from weights that were each
  rounded once, as float32 would round them. Every example of every step rounds the weights once more, so n of those
  lead sqrt(n) times as far, whatever the order in which an engine adds.

This is the one place where autograd is used, and only to check.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mnist_bp.engines.interface import Engine, ResidentData
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import CertificateError
from mnist_bp.model.backprop import forward, loss
from mnist_bp.model.parameters import (
    CLASSES,
    PIXELS,
    BiasGradient,
    FloatArray,
    IntArray,
    Model,
    Parameters,
    UInt8Array,
    initial_parameters,
)

GRADIENT_LIMIT: Final[Mapping[str, float]] = {"float32": 2e-6, "float64": 1e-10}
"""Largest error of a parameter's gradient, relative to its largest entry."""

DRIFT_LIMIT: Final = 16.0
"""How many times farther than sqrt(n) roundings explain an engine may end from the float64 trajectory.

Measured in 104 shapes (1 to 128 hidden units, batches of 1 to 128), the reference engine and the compiled one end at
0.4 in the median and at 4.6 at most; a bias gradient that is a sum where it should be a mean, at more than 1,000.
"""

_PROBE_RATE: Final[Mapping[str, float]] = {"float32": 2.0**20, "float64": 2.0**40}
_RATE_TIMES_BATCH: Final = 5.0
"""Learning rate times batch size of the trajectory, as in the lab."""

_EXAMPLES: Final = 256
_NONZERO_SHARE: Final = 0.19
"""Share of pixels that are not zero, as in MNIST."""


@dataclass(frozen=True)
class Certificate:
    """What was found; errors are relative to the largest entry of what is expected.

    Args:
        engine: Whose certificate it is.
        device: Where it computed.
        shape: D, H, K and B.
        gradients: For each precision and parameter, the errors against `autograd` (float64) and the `reference`.
        steps: Length of the trajectory.
        weights: For each parameter, the `engine`'s error after those steps, and what `one_rounding` of the starting
            weights grows to.
        seconds: What the certificate took, with the engine ready.
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
        """What is beyond its limit, each in words."""
        found = [
            f"d{name} in {dtype} differs from {judge} by {error:.1e}, limit {GRADIENT_LIMIT[dtype]:.0e}"
            for dtype, parameters in self.gradients.items()
            for name, judges in parameters.items()
            for judge, error in judges.items()
            if not error <= GRADIENT_LIMIT[dtype]
        ]
        return found + [
            f"{name} after {self.steps} steps differs from float64 by {errors['engine']:.1e}, "
            f"limit {self.max_drift(errors):.0e}"
            for name, errors in self.weights.items()
            if not errors["engine"] <= self.max_drift(errors)
        ]

    def max_drift(self, errors: dict[str, float]) -> float:
        """Tell how far from the float64 trajectory rounding may lead, for an entry of `weights`."""
        roundings = self.steps * self.shape["batch_size"]
        return DRIFT_LIMIT * math.sqrt(roundings) * errors["one_rounding"]

    def check(self) -> None:
        """Refuse an engine that is wrong.

        Raises:
            CertificateError: Names all that is beyond its limit.
        """
        if self.failures:
            raise CertificateError(
                f"the {self.engine} engine fails its certificate: {'; '.join(self.failures)}; use --engine reference, "
                "and report this with the output of: mnist-bp certify"
            )

    @property
    def summary(self) -> str:
        """What was found, in a line."""
        autograd = max(each["autograd"] for errors in self.gradients.values() for each in errors.values())
        drift = max(errors["engine"] for errors in self.weights.values())
        verdict = "NOT certified" if self.failures else "certified"
        return (
            f"{self.engine} engine {verdict}: gradients within {autograd:.1e} of float64 autograd, "
            f"weights within {drift:.1e} after {self.steps} steps"
        )

    @property
    def record(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return {**asdict(self), "limits": self.limits, "passed": not self.failures}

    @property
    def limits(self) -> dict[str, Any]:
        """What the errors are held to."""
        return {"gradients": dict(GRADIENT_LIMIT), "drift": DRIFT_LIMIT}


def certify(
    engine: Engine,
    *,
    hidden: int = 30,
    batch_size: int = 10,
    bias_gradient: BiasGradient = "mean",
    precisions: tuple[str, ...] = ("float32",),
    steps: int = 100,
) -> Certificate:
    """Put an engine to the test.

    Args:
        engine: Whose arithmetic is in question.
        hidden: H of the network it is tested on.
        batch_size: B.
        bias_gradient: Reduction of the bias gradients in the trajectory; the gradients themselves are sums.
        precisions: `float32`, `float64`, or both.
        steps: Length of the trajectory.
    """
    images, labels = _synthetic_digits(max(_EXAMPLES, batch_size))
    data, reference = engine.load(images, labels, CLASSES), ReferenceEngine().load(images, labels, CLASSES)
    started = time.perf_counter()
    model: Model = initial_parameters(1, PIXELS, hidden, CLASSES)
    batch = np.arange(batch_size)
    tame: Model = model.map(lambda array: array / 8)  # saturated, a sigmoid magnifies what z1 was rounded by
    expected = _autograd_gradients(_cast("float64", tame), images[batch], labels[batch])
    gradients = {}
    for dtype in precisions:
        found, same = (gradients_of(each, _cast(dtype, tame), batch) for each in (data, reference))
        gradients[dtype] = {
            name: {"autograd": _error(a, b), "reference": _error(a, c)}
            for name, a, b, c in zip(Parameters._fields, found, expected, same, strict=True)
        }
    batches = np.random.RandomState(1).randint(len(images), size=(steps, batch_size)).astype(np.int64)
    precise = _cast("float64", model)
    exact, *others = (
        each.advance([start], [batches], learning_rate=_RATE_TIMES_BATCH / batch_size, bias_gradient=bias_gradient)[0]
        for each, start in ((reference, precise), (data, model), (reference, _rounded(precise)))
    )
    weights = {
        name: {
            whose: _error(other[place], exact[place])
            for whose, other in zip(("engine", "one_rounding"), others, strict=True)
        }
        for place, name in enumerate(Parameters._fields)
    }
    shape = {"inputs": PIXELS, "hidden": hidden, "classes": CLASSES, "batch_size": batch_size}
    seconds = time.perf_counter() - started
    return Certificate(engine.name, engine.device, shape, gradients, steps, weights, seconds)


def _synthetic_digits(count: int) -> tuple[UInt8Array, UInt8Array]:
    """Make images as sparse as digits, and labels; the second is all zero."""
    draw = np.random.RandomState(1)
    images = draw.randint(1, 256, size=(count, PIXELS)) * (draw.random_sample((count, PIXELS)) < _NONZERO_SHARE)
    images[1] = 0  # not the first: a batch of one must have a gradient
    return images.astype(np.uint8), draw.randint(CLASSES, size=count).astype(np.uint8)


def _cast(dtype: str, model: Model) -> Model:
    return model.map(lambda array: array.astype(dtype))


def _rounded(model: Model) -> Model:
    """Move every weight by what rounding it to float32 may move it, up or down by chance."""
    draw = np.random.RandomState(1)
    return model.map(lambda array: array * (1 + 2.0**-24 * draw.choice([-1, 1], array.shape)))


def gradients_of(data: ResidentData, model: Model, batch: IntArray) -> Model:
    """Measure an engine's gradients by one step at a learning rate that dwarfs the weights."""
    rate = _PROBE_RATE[model.W1.dtype.name]
    (moved,) = data.advance([model], [batch[np.newaxis]], learning_rate=rate, bias_gradient="sum")
    return Parameters(*((a.astype(np.float64) - b) / rate for a, b in zip(model, moved, strict=True)))


def _autograd_gradients(model: Model, images: UInt8Array, labels: UInt8Array) -> Model:
    leaves: Parameters[Tensor] = model.map(lambda array: torch.from_numpy(array).requires_grad_())
    x = torch.from_numpy(images).double() / 255
    t = torch.eye(CLASSES, dtype=torch.float64)[torch.from_numpy(labels).long()]
    return Parameters(*(gradient.numpy() for gradient in torch.autograd.grad(loss(forward(leaves, x).a2, t), leaves)))


def _error(found: FloatArray, expected: FloatArray) -> float:
    """Largest difference, relative to the largest expected value."""
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())
