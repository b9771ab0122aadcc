"""The interface of the engines. All compute the same equations; they differ in device and speed.

An engine loads a dataset once. It is then given models, and for each of them the batches of a range of steps, and
returns new models. It draws no random numbers and keeps no model, so that a range can be split anywhere without
changing a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from mnist_bp.model.parameters import BiasGradient, FloatArray, IntArray, Model, UInt8Array

PIXEL_SCALE: Final = 1 / 255
"""Factor that converts a byte to a pixel in [0, 1]."""


class ResidentData(Protocol):
    """A dataset loaded by an engine: on its device, in its layout."""

    def advance(
        self,
        models: Sequence[Model],
        batches: Sequence[IntArray],
        *,
        learning_rate: float,
        bias_gradient: BiasGradient,
    ) -> list[Model]:
        """Train models side by side, each for as many steps as it has batches.

        Args:
            models: M models to start from, all of one shape and dtype; not changed. The dtype, float32 or float64, is
                also that of the arithmetic.
            batches: For each model, row numbers of the examples of each step, shape (S, B).
            learning_rate: Step size.
            bias_gradient: Reduction of the bias gradients; see `mnist_bp.model.backprop`.

        Returns:
            The M models after S steps.
        """
        ...

    def predict(self, model: Model, scale: float = PIXEL_SCALE) -> FloatArray:
        """Predict every image.

        Args:
            model: The network.
            scale: Factor that converts a byte to a pixel.

        Returns:
            a2, shape (N, K).
        """
        ...


class Engine(Protocol):
    """The interface of all engines."""

    @property
    def name(self) -> str:
        """Name in `--engine` and in the manifest."""
        ...

    @property
    def device(self) -> str:
        """Device that computes the steps: `cpu` or `cuda`."""
        ...

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ResidentData:
        """Load a dataset.

        Args:
            images: Pixels in [0, 255], shape (N, D).
            labels: Classes in [0, K), shape (N,).
            classes: K.
        """
        ...
