"""The network and its losses, stated from their definitions, and trained by autograd in float64.

Nothing here comes from `backprop.py`: what is certified against this statement cannot agree with an error of that file.
This is the only module of the product that uses autograd, and it uses it only to check; see
`mnist_bp.engines.certificate`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mnist_bp.engines.certificate_data import Examples
from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import Model, Parameters, UInt8Array
from mnist_bp.model.recipe import Activation, Loss, Recipe


def predict(parameters: Parameters[Tensor], x: Tensor, activation: Activation) -> Tensor:
    """Return the outputs of the network.

    Args:
        parameters: The network: W1 (D, H), b1 (H,), W2 (H, K), b2 (K,); or M of them, with a leading axis each, and the
            shapes (M, 1, H) and (M, 1, K) for b1 and b2.
        x: Pixels in [0, 1], shape (B, D).
        activation: Activation of the hidden units.

    Returns:
        a2 in [0, 1], shape (B, K) or (M, B, K).
    """
    W1, b1, W2, b2 = parameters
    z1 = x @ W1 + b1
    a1 = torch.maximum(z1, torch.zeros(())) if activation == "relu" else 1 / (1 + torch.exp(-z1))
    return 1 / (1 + torch.exp(-(a1 @ W2 + b2)))


def loss(a2: Tensor, t: Tensor, form: Loss) -> Tensor:
    """Return the loss, a scalar, summed over the models if there are several, the batch and the classes.

    Args:
        a2: Outputs of the network; see `predict`.
        t: One-hot targets, shape (B, K).
        form: Squared error or cross-entropy.
    """
    if form == "cross_entropy":
        return -(t * torch.log(a2) + (1 - t) * torch.log(1 - a2)).sum()
    return 0.5 * ((a2 - t) ** 2).sum()


def differentiate(parameters: Parameters[Tensor], x: Tensor, t: Tensor, recipe: Recipe) -> Parameters[Tensor]:
    """Return the gradient of the loss with respect to each parameter, by autograd; arguments as above."""
    leaves = parameters.map(lambda tensor: tensor.detach().requires_grad_())
    return Parameters(*torch.autograd.grad(loss(predict(leaves, x, recipe.activation), t, recipe.loss), leaves))


def follow(
    models: tuple[Model, Model], examples: Examples, candidates: Batches, batch_size: int, recipe: Recipe
) -> tuple[Batches, list[Model]]:
    """Train two models by autograd, in float64.

    Args:
        models: The models; the second is close to the first.
        examples: The dataset.
        candidates: Examples to choose those of each step from: those whose z1 are farthest from zero. The derivative of
            a ReLU jumps there, and rounding alone would decide on which side of it an example is.
        batch_size: Examples that a step takes.
        recipe: Equations.

    Returns:
        The chosen examples, and the models after the last step.
    """
    chosen = []
    share = 1 if recipe.bias_gradient == "sum" else 1 / batch_size
    at = Parameters(*(torch.from_numpy(np.stack(pair)) for pair in zip(*models, strict=True)))
    at = at._replace(b1=at.b1[:, None], b2=at.b2[:, None])  # (M, D, H), (M, 1, H), (M, H, K), (M, 1, K)
    for rows, offsets, rate in zip(*candidates, strict=True):
        x = pixels(examples.moved(rows, offsets))
        if len(rows) > batch_size:
            distance = (x @ at.W1[0] + at.b1[0]).abs().amin(1)
            best = distance.argsort(descending=True)[:batch_size].numpy()
            rows, offsets, x = rows[best], offsets[best], x[best]
        chosen.append((rows, offsets))
        gradients = differentiate(at, x, one_hot(examples.labels[rows], examples.shape.classes), recipe)
        for q, dq, factor in zip(at, gradients, (1, share, 1, share), strict=True):
            q.sub_(dq, alpha=rate * factor)
    W1, b1, W2, b2 = (tensor.numpy() for tensor in at)
    rows, offsets = map(np.stack, zip(*chosen, strict=True))
    return Batches(rows, offsets, candidates.rates), [Parameters(W1[m], b1[m, 0], W2[m], b2[m, 0]) for m in range(2)]


def pixels(images: UInt8Array) -> Tensor:
    """Return x in [0, 1] for images in [0, 255], shape (B, D)."""
    return torch.from_numpy(images).double().div_(255)


def one_hot(labels: UInt8Array, classes: int) -> Tensor:
    """Return t, shape (B, K), for labels of shape (B,) and K classes."""
    return torch.eye(classes, dtype=torch.float64)[torch.from_numpy(labels).long()]
