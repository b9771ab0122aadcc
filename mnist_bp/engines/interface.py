"""What computes the training steps. Every engine does the same arithmetic; only where and how fast differs.

An engine takes in a dataset once. It is then handed models, and the batches of a range of steps for each, and returns
new models. It draws nothing at random and remembers no model, so a range may be cut anywhere without changing a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from mnist_bp.model.parameters import BiasGradient, FloatArray, IntArray, Model, UInt8Array

PIXEL_SCALE: Final = 1 / 255
"""Makes a byte a pixel in [0, 1]."""


class ResidentData(Protocol):
    """A dataset as an engine keeps it: in its own layout, where it computes."""

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
            models: Where each starts, M of them, of one shape and dtype; not changed. float64 is computed in float64.
            batches: For each model, row numbers of the examples of each step, shape (S, B).
            learning_rate: Step size.
            bias_gradient: See `mnist_bp.model.backprop`.

        Returns:
            Every model after S steps.
        """
        ...

    def predict(self, model: Model, scale: float = PIXEL_SCALE) -> FloatArray:
        """Classify every image.

        Args:
            model: The network.
            scale: What a byte is multiplied by to make a pixel.

        Returns:
            a2, shape (N, K).
        """
        ...


class Engine(Protocol):
    """The one interface of all engines."""

    @property
    def name(self) -> str:
        """What the manifest records."""
        ...

    @property
    def device(self) -> str:
        """Where the steps run: `cpu` or `cuda`."""
        ...

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ResidentData:
        """Take in a dataset.

        Args:
            images: Pixels in [0, 255], shape (N, D).
            labels: Classes in [0, K), shape (N,).
            classes: K.
        """
        ...
