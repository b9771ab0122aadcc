"""The accuracy at each checkpoint while a run trains: on training images, never on test images.

It is shown and not kept: nothing is chosen by it, and no bit of a weight depends on it. If the run holds images out, it
is measured on those. Otherwise every training image is trained on, and holding some out would change the weights; then
it is measured on images that the run trains on, and is called training accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import numpy as np

from mnist_bp.engines.interface import Engine
from mnist_bp.engines.parallel import on_every_core
from mnist_bp.model.parameters import Model, UInt8Array
from mnist_bp.model.recipe import Activation

MAX_IMAGES: Final = 5_000
"""Images to predict at a checkpoint, for all models together: about 2 ms on a core."""

MIN_IMAGES: Final = 1_000
"""Images to predict with each of many models."""


class InterimAccuracy:
    """The last images of a training split, loaded to score the models at each checkpoint.

    Args:
        engine: Engine that computes the predictions.
        images: The whole training split, pixels in [0, 255], shape (N, D).
        labels: Classes, shape (N,).
        held_out: Number of images at its end that the run does not train on; may be 0.
        models: Number of models to score, at least 1.
        activation: Activation of their hidden units.
        classes: K.
    """

    def __init__(
        self,
        engine: Engine,
        images: UInt8Array,
        labels: UInt8Array,
        held_out: int,
        models: int,
        activation: Activation,
        classes: int = 10,
    ) -> None:
        count = min(held_out or len(images), max(MIN_IMAGES, MAX_IMAGES // models))
        self._labels = labels[-count:].astype(np.int64)
        self._data = engine.load(images[-count:], labels[-count:], classes)
        self._activation = activation
        self.name: Final = "held-out accuracy" if held_out else "training accuracy"

    def accuracy(self, model: Model) -> float:
        """Return the share of the images that are classified correctly, in [0, 1]."""
        return float((self._data.predict(model, self._activation).argmax(1) == self._labels).mean())

    def describe(self, models: Sequence[Model]) -> str:
        """Return the accuracy as text, such as `held-out accuracy 0.9123`; of several models, the median."""
        accuracies = on_every_core(self.accuracy, models)
        return f"{self.name} {median(accuracies):.4f}{' (median)' if len(accuracies) > 1 else ''}"
