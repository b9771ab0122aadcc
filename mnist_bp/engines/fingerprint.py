"""The fingerprint of an engine on a machine: machines with the same one train the same bits.

Processors differ in vector width and in fused multiply-add, and NumPy computes logarithms by what it finds, so the same
code can round differently. The fingerprint is a digest of weights that were drawn and trained as in a training, and of
what they predict. It takes milliseconds, less than a model that is trained after it, and needs no torch unless the
engine does.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from mnist_bp.engines.certificate_data import synthetic_digits
from mnist_bp.engines.interface import Engine
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import DatasetShape

EXAMPLES: Final = 1_000
"""Examples that the weights are trained on: 100 steps of 10."""

_IMAGES: Final = 500
_RATE: Final = 0.02


def fingerprint(engine: Engine, shape: DatasetShape, hidden: int, batch_size: int, recipe: Recipe) -> str:
    """Return the SHA-256 of weights after some steps on the images of the certificate, 64 hex digits.

    Args:
        engine: The engine, ready to train.
        shape: Of the images that it will train on; also K.
        hidden: H of the models.
        batch_size: B; of large batches there are fewer steps, at least two.
        recipe: Of the models; its learning rate, steps and shift are not used.
    """
    every = synthetic_digits(0, shape)
    rows = every.rows[:_IMAGES]
    few = every._replace(images=every.images[rows], labels=every.labels[rows], rows=np.arange(len(rows)))
    data = engine.load(few.images, few.labels, shape.classes)
    batches = few.draw(1, max(2, EXAMPLES // batch_size), batch_size, _RATE)
    start = initial_parameters(1, shape.inputs, hidden, shape.classes, recipe.gain)
    (model,) = data.advance([start], [batches], recipe)
    digest = hashlib.sha256()
    for array in (*model, data.predict(model, recipe.activation)):
        digest.update(array.tobytes())
    return digest.hexdigest()
