"""The network: its four parameters, how they start, and the forward pass.

| symbol | shape  | meaning                                                |
|--------|--------|--------------------------------------------------------|
| x      | (B, D) | pixels in [0, 1], one image per row                    |
| W1, b1 | (D, H), (H,) | first layer                                      |
| W2, b2 | (H, K), (K,) | second layer                                     |
| z1, a1 | (B, H) | z1 = x W1 + b1, a1 = sigmoid(z1)                       |
| z2, a2 | (B, K) | z2 = a1 W2 + b2, a2 = sigmoid(z2), the prediction      |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mnist_bp import rng


class Parameters(NamedTuple):
    """Weights and biases.

    Args:
        W1: Shape (D, H).
        b1: Shape (H,).
        W2: Shape (H, K).
        b2: Shape (K,).
    """

    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor

    def to(self, target: torch.device | torch.dtype) -> Parameters:
        """Copy to a device or to a floating-point type."""
        return Parameters(*(parameter.to(target, copy=True) for parameter in self))

    def all_finite(self) -> bool:
        """Whether no value is infinite or not a number."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self)


class Activations(NamedTuple):
    """What the forward pass leaves for the backward pass.

    Args:
        a1: Hidden activations, shape (B, H), in [0, 1].
        a2: Predictions, shape (B, K), in [0, 1].
    """

    a1: Tensor
    a2: Tensor


def initial_parameters(seed: int, inputs: int, hidden: int, classes: int) -> Parameters:
    """Draw every parameter from N(0, 1), in the order W1, b1, W2, b2.

    Args:
        seed: Same seed, same parameters, on CPU and GPU alike; seed 1 gives the lab's published b2.
        inputs: D.
        hidden: H.
        classes: K.

    Returns:
        float32 parameters on the CPU.
    """
    shapes = ((inputs, hidden), (hidden,), (hidden, classes), (classes,))
    draws = (
        torch.from_numpy(rng.normal(seed, position, torch.Size(shape).numel())).view(shape)
        for position, shape in enumerate(shapes)
    )
    return Parameters(*draws)


def forward(parameters: Parameters, x: Tensor) -> Activations:
    """Predict.

    Args:
        parameters: The network.
        x: Pixels in [0, 1], shape (B, D), of the parameters' dtype and device.

    Returns:
        What every layer puts out; a2 is the prediction.
    """
    W1, b1, W2, b2 = parameters
    # fmt: off
    z1 = torch.addmm(b1, x, W1)   # (B, H)  x W1 + b1
    a1 = torch.sigmoid(z1)        # (B, H)
    z2 = torch.addmm(b2, a1, W2)  # (B, K)  a1 W2 + b2
    a2 = torch.sigmoid(z2)        # (B, K)
    # fmt: on
    return Activations(a1, a2)


def loss(a2: Tensor, t: Tensor) -> Tensor:
    """Sum half the squared error over batch and classes: L = 1/2 sum (a2 - t)^2.

    Args:
        a2: Predictions, shape (B, K).
        t: One-hot targets, shape (B, K).

    Returns:
        Scalar.
    """
    return (a2 - t).square().sum() / 2
