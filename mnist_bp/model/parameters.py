"""The network's parameters, and how they start.

| symbol | shape        | meaning                                           |
|--------|--------------|---------------------------------------------------|
| x      | (B, D)       | pixels in [0, 1], one image per row               |
| W1, b1 | (D, H), (H,) | first layer                                       |
| W2, b2 | (H, K), (K,) | second layer                                      |
| z1, a1 | (B, H)       | z1 = x W1 + b1, a1 = sigmoid(z1)                  |
| z2, a2 | (B, K)       | z2 = a1 W2 + b2, a2 = sigmoid(z2), the prediction |

What is computed from them is in `mnist_bp.model.backprop`. At rest they are NumPy arrays, which need no torch to be
made, saved or read; an engine that computes with torch takes them as tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_bp.model import rng

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

PIXELS: Final = 28 * 28
CLASSES: Final = 10

BiasGradient = Literal["mean", "sum"]
"""How the gradients of the biases are reduced over the batch; see `mnist_bp.model.backprop`."""

Array = TypeVar("Array")
Other = TypeVar("Other")
Scalar = TypeVar("Scalar", bound=np.generic)


class Parameters(NamedTuple, Generic[Array]):
    """Weights and biases: arrays or tensors.

    Args:
        W1: Shape (D, H).
        b1: Shape (H,).
        W2: Shape (H, K).
        b2: Shape (K,).
    """

    W1: Array
    b1: Array
    W2: Array
    b2: Array

    def map(self, function: Callable[[Array], Other]) -> Parameters[Other]:
        """Apply a function to each."""
        return Parameters(*(function(parameter) for parameter in self))


Model = Parameters[FloatArray]


def writable(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Return the array itself, or a copy of one that is read-only or not contiguous: compiled code takes no other."""
    return np.require(array, requirements=["C", "W"])


def all_finite(model: Model) -> bool:
    """Whether no value is infinite or not a number."""
    return all(bool(np.isfinite(parameter).all()) for parameter in model)


def initial_parameters(seed: int, inputs: int, hidden: int, classes: int) -> Parameters[npt.NDArray[np.float32]]:
    """Draw every parameter from N(0, 1), in the order W1, b1, W2, b2.

    Args:
        seed: Same seed, same parameters, on CPU and GPU alike; seed 1 gives the lab's published b2.
        inputs: D.
        hidden: H.
        classes: K.

    Returns:
        float32 parameters.
    """
    shapes = ((inputs, hidden), (hidden,), (hidden, classes), (classes,))
    return Parameters(
        *(rng.normal(seed, position, int(np.prod(shape))).reshape(shape) for position, shape in enumerate(shapes))
    )
