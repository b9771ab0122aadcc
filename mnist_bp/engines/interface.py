"""The interface of the engines. All compute the same equations; they differ in device and speed.

An engine loads a dataset once. It is then given models, and for each of them the batches of a range of steps, and
returns new models. It draws no random numbers and keeps no model, so that a range can be split anywhere without
changing a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mnist_bp.model.parameters import FloatArray, IntArray, Model, UInt8Array
from mnist_bp.model.recipe import Activation, Recipe

PIXEL_SCALE: Final = 1 / 255
"""Factor that converts a byte to a pixel in [0, 1]."""

MAX_OFFSET: Final = 247
"""Largest distance by which pixels are moved: the cpu engine packs a zero pixel into each longer run of zeros, and that
must not leave the row either; see `mnist_bp.engines.pixel_words`."""


class Batches(NamedTuple):
    """What a model is trained on in a range of steps.

    Args:
        rows: Row numbers of the examples of each step, in [0, N), shape (S, B).
        offsets: For each example, how far its pixels are moved along its row of D, in [-MAX_OFFSET, MAX_OFFSET], shape
            (S, B): down by one row of pixels if that is the width of the image. No nonzero pixel may leave the row.
        rates: Learning rate of each step, greater than 0, shape (S,).
    """

    rows: IntArray
    offsets: npt.NDArray[np.int32]
    rates: npt.NDArray[np.float64]

    def steps(self, start: int, stop: int) -> Batches:
        """Return those of some of the steps: from `start` on, counted from 0, before `stop`."""
        return Batches(self.rows[start:stop], self.offsets[start:stop], self.rates[start:stop])


def unmoved(rows: IntArray, learning_rate: float) -> Batches:
    """Return batches of images that are not moved, at a constant learning rate.

    Args:
        rows: As in `Batches`.
        learning_rate: Of every step.
    """
    return Batches(rows, np.zeros(rows.shape, np.int32), np.full(len(rows), learning_rate))


class ResidentData(Protocol):
    """A dataset loaded by an engine: on its device, in its layout."""

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        """Train models side by side, each for as many steps as it has batches.

        Args:
            models: M models to start from, all of one shape and dtype; not changed. The dtype, float32 or float64, is
                also that of the arithmetic.
            batches: For each model, those of the same number of steps S.
            recipe: Selects the equations; see `mnist_bp.model.backprop`.

        Returns:
            The M models after S steps.
        """
        ...

    def predict(self, model: Model, activation: Activation, scale: float = PIXEL_SCALE) -> FloatArray:
        """Predict every image.

        Args:
            model: The network.
            activation: Activation of its hidden units.
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
