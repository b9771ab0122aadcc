"""The backward pass, by hand.

With L = 1/2 * sum over batch and classes of (a2 - t)^2 and sigmoid'(z) = a (1 - a), the chain rule gives

    (1) dz2 = (a2 - t) * a2 * (1 - a2)      (B, K)
    (2) dW2 = a1^T dz2                      (H, K)   summed over the batch
    (3) db2 = dz2, reduced over the batch   (K,)
    (4) da1 = dz2 W2^T                      (B, H)
    (5) dz1 = da1 * a1 * (1 - a1)           (B, H)
    (6) dW1 = x^T dz1                       (D, H)   summed over the batch
    (7) db1 = dz1, reduced over the batch   (H,)

where dq is the gradient of L with respect to q. The weights' gradients are sums over the batch. The biases' are sums
too if they are to be gradients of L; the lab takes their mean, so that at batch size B biases step B times more
slowly than weights. `bias_gradient` says which.

Source: the chain rule for a two-layer sigmoid network under squared error (Rumelhart, Hinton and Williams, "Learning
representations by back-propagating errors", Nature 323, 1986); the reduction over the batch is the lab's own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mnist_bp.network import Activations, Parameters
from mnist_bp.records import BiasGradient


class Gradients(NamedTuple):
    """Gradients, each of the shape of its parameter: dW1 (D, H), db1 (H,), dW2 (H, K), db2 (K,)."""

    dW1: Tensor
    db1: Tensor
    dW2: Tensor
    db2: Tensor


def backward(
    parameters: Parameters,
    x: Tensor,
    activations: Activations,
    t: Tensor,
    bias_gradient: BiasGradient,
) -> Gradients:
    """Propagate the error of one batch back to every parameter.

    Args:
        parameters: The network that `activations` came from.
        x: Pixels in [0, 1], shape (B, D).
        activations: What `forward` returned for x: a1 (B, H) and a2 (B, K).
        t: One-hot targets, shape (B, K).
        bias_gradient: How db1 and db2 are reduced over the batch; with `sum` they are gradients of L.

    Returns:
        One gradient for each parameter, in the parameters' dtype and on their device.
    """
    a1, a2 = activations
    over_batch = torch.sum if bias_gradient == "sum" else torch.mean

    # fmt: off
    dz2 = (a2 - t) * a2 * (1 - a2)  # (B, K)  (1)
    dW2 = a1.T @ dz2                # (H, K)  (2)
    db2 = over_batch(dz2, 0)        # (K,)    (3)
    da1 = dz2 @ parameters.W2.T     # (B, H)  (4)
    dz1 = da1 * a1 * (1 - a1)       # (B, H)  (5)
    dW1 = x.T @ dz1                 # (D, H)  (6)
    db1 = over_batch(dz1, 0)        # (H,)    (7)
    # fmt: on
    return Gradients(dW1, db1, dW2, db2)


def descend(parameters: Parameters, gradients: Gradients, learning_rate: float) -> None:
    """Take one step of gradient descent, in place: q <- q - learning_rate * dq."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.sub_(gradient, alpha=learning_rate)
