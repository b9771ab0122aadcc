"""The parameters of the network, and their initial values.

| symbol | shape        | meaning                                           |
|--------|--------------|---------------------------------------------------|
| x      | (B, D)       | pixels in [0, 1], one image per row               |
| W1, b1 | (D, H), (H,) | first layer                                       |
| W2, b2 | (H, K), (K,) | second layer                                      |
| z1, a1 | (B, H)       | z1 = x W1 + b1, a1 = sigmoid(z1) or max(z1, 0)    |
| z2, a2 | (B, K)       | z2 = a1 W2 + b2, a2 = sigmoid(z2), the prediction |

`mnist_bp.model.backprop` computes with them. They are stored and passed on as NumPy arrays, so that no torch is needed
to make, save or read them; an engine that computes with torch converts them to tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mnist_bp.model import rng

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

WIDTH: Final = 28
PIXELS: Final = WIDTH * WIDTH
CLASSES: Final = 10

Array = TypeVar("Array")
Other = TypeVar("Other")
Scalar = TypeVar("Scalar", bound=np.generic)


class Parameters(NamedTuple, Generic[Array]):
    """Weights and biases, as arrays or as tensors.

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
        """Apply a function to each parameter."""
        return Parameters(*(function(parameter) for parameter in self))


Model = Parameters[FloatArray]


def writable(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Return the array, or a copy if it is read-only or not contiguous, as compiled code requires."""
    return np.require(array, requirements=["C", "W"])


def all_finite(model: Model) -> bool:
    """Return whether every value is finite."""
    return all(bool(np.isfinite(parameter).all()) for parameter in model)


def initial_parameters(
    seed: int, inputs: int, hidden: int, classes: int, gain: float | None = None
) -> Parameters[npt.NDArray[np.float32]]:
    """Draw every parameter from N(0, 1), in the order W1, b1, W2, b2, and scale them if a gain is given.

    Args:
        seed: Decides the parameters, identically on CPU and GPU; seed 1 gives the b2 that the lab published.
        inputs: D.
        hidden: H.
        classes: K.
        gain: None as in the lab. Otherwise, the biases are 0 and the weights have the variance gain / D or gain / H:
            an output then varies as much as its inputs do, however many they are.

    Returns:
        float32 parameters.
    """
    shapes = ((inputs, hidden), (hidden,), (hidden, classes), (classes,))
    drawn = Parameters(
        *(rng.normal(seed, position, int(np.prod(shape))).reshape(shape) for position, shape in enumerate(shapes))
    )
    if gain is None:
        return drawn
    return Parameters(
        W1=drawn.W1 * np.float32(math.sqrt(gain / inputs)),
        b1=np.zeros_like(drawn.b1),
        W2=drawn.W2 * np.float32(math.sqrt(gain / hidden)),
        b2=np.zeros_like(drawn.b2),
    )
