"""What the certificate of an engine states, with the limits of its errors. This module needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from mnist_bp.errors import CertificateError
from mnist_bp.model.recipe import Recipe

LIMIT: Final[Mapping[str, float]] = {"float32": 2e-6, "float64": 1e-10}
"""Largest allowed error of a parameter's gradient, or of the predictions, relative to the largest entry. A gradient of
more than `SUMMED` examples may differ by more, in proportion to their number: each is a sum over them. So may both with
more than `PIXELS` inputs, in proportion to the root of their number: n roundings lead sqrt(n) times as far."""

SUMMED: Final = 128
PIXELS: Final = 784

LOSS_LIMIT: Final = 1e-12
"""Largest allowed relative error of the loss of `mnist_bp.model.backprop`, in float64."""

DRIFT_LIMIT: Final = 16.0
"""Largest allowed distance from the float64 trajectory, in multiples of what n roundings explain."""
ROUNDING: Final = 2.0**-24
"""Largest relative error of one rounding to float32."""

MAX_SIZE: Final = 1_024
"""Largest H and B of the network whose gradients and predictions are checked."""

FORMS: Final = ("initial", "loss", "activation", "bias_gradient", "shift")


def forms_of(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe decides the certificate; its learning rates do not, since the check chooses its own."""
    return {name: getattr(recipe, name) for name in FORMS}


@dataclass(frozen=True)
class Certificate:
    """The result of the gradient check; errors are relative to the largest expected entry.

    Args:
        engine: Name of the engine.
        device: Device that it computed on.
        shape: `inputs`, `hidden`, `classes` and `batch_size`: D, H, K and B of the network whose gradients and
            predictions were checked.
        recipe: The forms of the equations; see `forms_of`.
        gradients: For each precision and parameter, the error relative to float64 autograd.
        predictions: For each precision and scale of the pixels, `1/255` and `1`, the error of the predictions.
        loss: Error of the loss that `mnist_bp.model.backprop` states.
        trajectory: Its `steps`, and its `hidden` and `batch_size`.
        weights: For each parameter, the error of the `engine` after those steps, and the error that `one_rounding` of
            the initial weights grows to.
        calls: Whether one call for many steps, and one for two steps of the network in `shape`, end in the same bits as
            several calls (`several steps`), and each of two models in one call in the same as alone (`several models`).
        at: Time of the check, ISO 8601 in UTC.
        seconds: Duration of the check, with the engine ready.
        reused: Whether the check was made by an earlier run, of the same code on this machine.
    """

    engine: str
    device: str
    shape: dict[str, int]
    recipe: dict[str, Any]
    gradients: dict[str, dict[str, float]]
    predictions: dict[str, dict[str, float]]
    loss: float
    trajectory: dict[str, int]
    weights: dict[str, dict[str, float]]
    calls: dict[str, bool]
    at: str
    seconds: float
    reused: bool = False

    @property
    def failures(self) -> list[str]:
        """A sentence for each error beyond its limit."""
        return [*self._wrong_values(), *self._wrong_weights(), *self._wrong_calls()]

    def _wrong_values(self) -> Iterator[str]:
        found = [
            (f"d{name} in {dtype} differs from autograd", error, self.gradient_limit(dtype))
            for dtype, errors in self.gradients.items()
            for name, error in errors.items()
        ]
        found += [
            (
                f"predictions in {dtype} from pixels times {scale} differ from the equations",
                error,
                self.value_limit(dtype),
            )
            for dtype, errors in self.predictions.items()
            for scale, error in errors.items()
        ]
        found.append(("the loss of backprop.py differs from its definition", self.loss, LOSS_LIMIT))
        return (f"{what} by {error:.1e}, limit {limit:.0e}" for what, error, limit in found if not error <= limit)

    def _wrong_weights(self) -> Iterator[str]:
        for name, errors in self.weights.items():
            if not errors["engine"] <= (limit := self.max_drift(errors)):
                yield (
                    f"{name} after {self.trajectory['steps']} steps differs from float64 by {errors['engine']:.1e}, "
                    f"limit {limit:.0e}"
                )

    def _wrong_calls(self) -> Iterator[str]:
        if not self.calls["several steps"]:
            yield "one call for many steps ends in other bits than many calls"
        if not self.calls["several models"]:
            yield "one call for two models ends in other bits than a call for each"

    def value_limit(self, dtype: str) -> float:
        """Return the limit for the errors of the predictions in a precision."""
        return LIMIT[dtype] * math.sqrt(max(1.0, self.shape["inputs"] / PIXELS))

    def gradient_limit(self, dtype: str) -> float:
        """Return the limit for the errors of the gradients in a precision."""
        return self.value_limit(dtype) * max(1.0, self.shape["batch_size"] / SUMMED)

    def max_drift(self, errors: Mapping[str, float]) -> float:
        """Return the limit for the engine's error in an entry of `weights`."""
        roundings = self.trajectory["steps"] * self.trajectory["batch_size"]
        return DRIFT_LIMIT * math.sqrt(roundings) * max(errors["one_rounding"], ROUNDING)

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
        autograd = max(error for errors in self.gradients.values() for error in errors.values())
        drift = max(errors["engine"] for errors in self.weights.values())
        verdict = "NOT certified" if self.failures else "certified"
        when = f" on {self.at[:10]}" if self.reused else ""
        return (
            f"{self.engine} engine {verdict}{when}: gradients within {autograd:.1e} of float64 autograd, "
            f"weights within {drift:.1e} after {self.trajectory['steps']} steps"
        )

    @property
    def record(self) -> dict[str, Any]:
        """The certificate as the manifest records it."""
        return {**asdict(self), "limits": self.limits, "passed": not self.failures}

    @property
    def limits(self) -> dict[str, Any]:
        """The limits of the errors."""
        return {"values": dict(LIMIT), "loss": LOSS_LIMIT, "drift": DRIFT_LIMIT}
