"""The fingerprint of an engine on a machine: machines with the same one train the same bits.

Processors differ in vector width and in fused multiply-add, and NumPy computes logarithms by what it finds, so the same
code can round differently. The fingerprint is a digest of weights that were drawn and trained as in a training; it
takes milliseconds and needs no torch unless the engine does.
"""

from __future__ import annotations

import hashlib
from typing import Final

from mnist_bp.engines.certificate_data import synthetic_digits
from mnist_bp.engines.interface import Engine
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results import MNIST_SHAPE, DatasetShape

STEPS: Final = 100
"""Steps of each training, as in a call of `mnist_bp.engines.certificate`."""

_BATCH: Final = 10
_RECIPES: Final = (Recipe(), Recipe(loss="cross_entropy", activation="relu", initial="scaled"))
"""The equations: of both losses and both activations."""

_RATE: Final = 0.02


def fingerprint(engine: Engine, shape: DatasetShape = MNIST_SHAPE) -> str:
    """Return the SHA-256 of the weights after `STEPS` steps on the images of the certificate, 64 hex digits.

    Args:
        engine: The engine, ready to train.
        shape: Of the images that it will train on; also K.
    """
    examples, digest = synthetic_digits(0, shape), hashlib.sha256()
    data = engine.load(examples.images, examples.labels, shape.classes)
    batches = examples.draw(1, STEPS, _BATCH, _RATE)
    for recipe in _RECIPES:
        start = initial_parameters(1, shape.inputs, 30, shape.classes, recipe.gain)
        (model,) = data.advance([start], [batches], recipe)
        for parameter in model:
            digest.update(parameter.tobytes())
        digest.update(data.predict(model, recipe.activation)[examples.rows[:100]].tobytes())
    return digest.hexdigest()
