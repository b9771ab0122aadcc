"""The forward pass in NumPy, to use a trained model where neither torch nor a compiled engine is wanted.

    z1 = x W1 + b1, a1 = sigmoid(z1) or max(z1, 0)    (B, H)
    z2 = a1 W2 + b2, a2 = sigmoid(z2)                 (B, K)

Source: `mnist_bp.model.backprop`, whose `forward` computes the same with torch.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mnist_bp.model.parameters import FloatArray, Model, UInt8Array
from mnist_bp.model.recipe import Activation

BLOCK: Final = 2_000
"""Images predicted at a time; their pixels as floats take 6 MB, which fit in a cache."""


def predict(model: Model, images: UInt8Array, activation: Activation, scale: float) -> FloatArray:
    """Predict images.

    Args:
        model: The network; its dtype is that of the arithmetic.
        images: Pixels in [0, 255], shape (N, D).
        activation: Activation of the hidden units.
        scale: Factor that converts a byte to a pixel.

    Returns:
        a2, shape (N, K).
    """
    W1, b1, W2, b2 = model
    a2 = np.empty((len(images), len(b2)), W1.dtype)
    for start in range(0, len(images), BLOCK):
        rows = slice(start, start + BLOCK)
        x = np.multiply(images[rows], scale, dtype=W1.dtype)  # (B, D)
        z1 = x @ W1 + b1  # (B, H)
        a1 = np.maximum(z1, 0) if activation == "relu" else _sigmoid(z1)  # (B, H)
        a2[rows] = _sigmoid(a1 @ W2 + b2)  # (B, K)
    return a2


def _sigmoid(z: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # exp(-z) is infinite below -88: the quotient is 0, as it must be
        a: FloatArray = 1 / (1 + np.exp(-z))
    return a
