"""The forward pass, the loss, and the backward pass written out by hand.

    z1 = x W1 + b1, a1 = sigmoid(z1)        (B, H)
    z2 = a1 W2 + b2, a2 = sigmoid(z2)       (B, K)
    L  = 1/2 * sum over batch and classes of (a2 - t)^2

With sigmoid'(z) = a (1 - a) the chain rule gives

    (1) dz2 = (a2 - t) * a2 * (1 - a2)      (B, K)
    (2) dW2 = a1^T dz2                      (H, K)   summed over the batch
    (3) db2 = dz2, reduced over the batch   (K,)
    (4) da1 = dz2 W2^T                      (B, H)
    (5) dz1 = da1 * a1 * (1 - a1)           (B, H)
    (6) dW1 = x^T dz1                       (D, H)   summed over the batch
    (7) db1 = dz1, reduced over the batch   (H,)

where dq is the gradient of L with respect to q. The gradients of L are sums over the batch, for weights and biases
alike. For the biases the lab takes the mean instead, so that they step B times more slowly than the weights;
`bias_gradient` selects the sum or the mean.

Two equations have a second form; a `Recipe` selects it, and nothing else changes:

    (1') dz2 = a2 - t                       (B, K)   if L = - sum of t log a2 + (1 - t) log(1 - a2), the cross-entropy
    (5') dz1 = da1 * [a1 > 0]               (B, H)   if a1 = max(z1, 0), the ReLU

In (1') the slope a2 (1 - a2) has cancelled: an output that is wrong and saturated still learns. In (5') the slope is 1
where a hidden unit is active, so that its gradient reaches the first layer undiminished.

Source: the chain rule for a two-layer sigmoid network with squared error (Rumelhart, Hinton and Williams, "Learning
representations by back-propagating errors", Nature 323, 1986); the mean over the batch comes from the lab. Second
forms: Goodfellow, Bengio and Courville, "Deep Learning", 2016, sections 6.2.2 and 6.3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mnist_bp.model.parameters import Parameters
from mnist_bp.model.recipe import Activation, Loss, Recipe


class Activations(NamedTuple):
    """The outputs of both layers, which the backward pass needs.

    Args:
        a1: Hidden activations, shape (B, H): in [0, 1], or at least 0 with ReLU.
        a2: Predictions, shape (B, K), in [0, 1].
    """

    a1: Tensor
    a2: Tensor


class Gradients(NamedTuple):
    """The gradients, each with the shape of its parameter: dW1 (D, H), db1 (H,), dW2 (H, K), db2 (K,)."""

    dW1: Tensor
    db1: Tensor
    dW2: Tensor
    db2: Tensor


def forward(parameters: Parameters[Tensor], x: Tensor, activation: Activation) -> Activations:
    """Compute the outputs of both layers; a2 is the prediction.

    Args:
        parameters: The network.
        x: Pixels in [0, 1], shape (B, D), with the dtype and on the device of the parameters.
        activation: Activation of the hidden units.

    Returns:
        a1 (B, H) and a2 (B, K).
    """
    W1, b1, W2, b2 = parameters
    activate = torch.relu if activation == "relu" else torch.sigmoid
    # fmt: off
    z1 = torch.addmm(b1, x, W1)   # (B, H)  x W1 + b1
    a1 = activate(z1)             # (B, H)
    z2 = torch.addmm(b2, a1, W2)  # (B, K)  a1 W2 + b2
    a2 = torch.sigmoid(z2)        # (B, K)
    # fmt: on
    return Activations(a1, a2)


def loss(a2: Tensor, t: Tensor, form: Loss) -> Tensor:
    """Compute the loss: half the squared error or the cross-entropy, summed over batch and classes.

    Args:
        a2: Predictions, shape (B, K).
        t: One-hot targets, shape (B, K).
        form: Which of the two.

    Returns:
        L, a scalar.
    """
    if form == "cross_entropy":
        return torch.nn.functional.binary_cross_entropy(a2, t, reduction="sum")
    return (a2 - t).square().sum() / 2


def backward(
    parameters: Parameters[Tensor],
    x: Tensor,
    activations: Activations,
    t: Tensor,
    recipe: Recipe,
) -> Gradients:
    """Compute the gradient of every parameter for one batch.

    Args:
        parameters: The network that computed `activations`.
        x: Pixels in [0, 1], shape (B, D).
        activations: Result of `forward` for x: a1 (B, H) and a2 (B, K).
        t: One-hot targets, shape (B, K).
        recipe: Selects the forms of (1) and (5), and the reduction of db1 and db2 over the batch: with `sum` they are
            gradients of L.

    Returns:
        One gradient for each parameter, with its dtype and on its device.
    """
    a1, a2 = activations
    over_batch = torch.sum if recipe.bias_gradient == "sum" else torch.mean

    # fmt: off
    dz2 = (a2 - t) * a2 * (1 - a2)  # (B, K)  (1)
    if recipe.loss == "cross_entropy":
        dz2 = a2 - t                # (B, K)  (1')
    dW2 = a1.T @ dz2                # (H, K)  (2)
    db2 = over_batch(dz2, 0)        # (K,)    (3)
    da1 = dz2 @ parameters.W2.T     # (B, H)  (4)
    dz1 = da1 * a1 * (1 - a1)       # (B, H)  (5)
    if recipe.activation == "relu":
        dz1 = da1 * (a1 > 0)        # (B, H)  (5')
    dW1 = x.T @ dz1                 # (D, H)  (6)
    db1 = over_batch(dz1, 0)        # (H,)    (7)
    # fmt: on
    return Gradients(dW1, db1, dW2, db2)


def descend(parameters: Parameters[Tensor], gradients: Gradients, learning_rate: float) -> None:
    """Take one step of gradient descent, in place: q <- q - learning_rate * dq."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.sub_(gradient, alpha=learning_rate)
