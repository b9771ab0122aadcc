"""The lab's script, rewritten from its equations with all its costs.

These are: images are converted through PIL to tensors one by one, by torchvision's data set and torch's DataLoader; the
sigmoid is spelled out, and its derivative computes it again from z, twice; every operation makes a new tensor; and the
parameters require a gradient that is never used, so that each update adds a step to a graph that is never freed. `Lab`
is the same without that graph.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench.peers import Task
from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import Model


class Lab:
    """The lab without its graph."""

    graph = False

    def __init__(self, task: Task) -> None:
        from torchvision.datasets import MNIST
        from torchvision.transforms import ToTensor

        torch.set_num_threads(1)
        self._digits = MNIST(str(task.directory), train=True, transform=ToTensor())
        self._classes, self._learning_rate = task.classes, task.recipe.learning_rate

    def advance(self, model: Model, batches: Batches) -> Model:
        """See `Trainer`; a sampler gives the loader our order."""
        loader = DataLoader(
            self._digits, batch_size=batches.rows.shape[1], sampler=batches.rows.reshape(-1).tolist(), drop_last=True
        )
        W1, b1, W2, b2 = (torch.from_numpy(array.copy()).requires_grad_(self.graph) for array in model)
        eta = self._learning_rate
        with self._recording():
            for images, labels in loader:
                x = images.flatten(1)  # (B, D)
                t = torch.eye(self._classes)[labels]  # (B, K)
                z1 = x @ W1 + b1  # (B, H)
                a1 = logistic(z1)  # (B, H)
                z2 = a1 @ W2 + b2  # (B, K)
                dz2 = (logistic(z2) - t) * slope(z2)  # (B, K)  (1)
                dW2 = a1.T @ dz2  # (H, K)  (2)
                dz1 = dz2 @ W2.T * slope(z1)  # (B, H)  (4, 5)
                dW1 = x.T @ dz1  # (D, H)  (6)
                W1, b1 = W1 - eta * dW1, b1 - eta * dz1.mean(0)  # (7)
                W2, b2 = W2 - eta * dW2, b2 - eta * dz2.mean(0)  # (3)
        return Model(*(parameter.detach().numpy() for parameter in (W1, b1, W2, b2)))

    def _recording(self) -> AbstractContextManager[object]:
        return torch.set_grad_enabled(self.graph)


class LeakingLab(Lab):
    """The lab with its graph, which grows until the last step."""

    graph = True


def logistic(z: Tensor) -> Tensor:
    """Compute the sigmoid in four operations, each with a new tensor."""
    return (-z).exp().add(1).reciprocal()


def slope(z: Tensor) -> Tensor:
    """Compute the derivative of the sigmoid from z."""
    return logistic(z) * (1 - logistic(z))
