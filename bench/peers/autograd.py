"""The implementation of tutorials: `nn.Linear`, autograd and `optim.SGD`, with a DataLoader and without.

Two parameter groups of the optimizer give the lab's rule: weights at the learning rate, biases at a B-th of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bench.peers import Task
from mnist_bp.model.parameters import IntArray, Model


class Autograd:
    """Train with autograd on batches that a subclass supplies."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        self._x, self._t = torch.from_numpy(task.pixels()), torch.from_numpy(task.one_hot())
        self._learning_rate = task.learning_rate

    def advance(self, model: Model, batches: IntArray) -> Model:
        """See `Trainer`."""
        first, second = (linear(weights, biases) for weights, biases in (model[:2], model[2:]))
        network = nn.Sequential(first, nn.Sigmoid(), second, nn.Sigmoid())
        eta = self._learning_rate
        optimizer = torch.optim.SGD(
            [
                {"params": [first.weight, second.weight], "lr": eta},
                {"params": [first.bias, second.bias], "lr": eta / batches.shape[1]},
            ]
        )
        for x, t in self._batches(batches):
            optimizer.zero_grad()
            loss = (network(x) - t).square().sum() / 2
            loss.backward()
            optimizer.step()
        layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in (first, second)]
        return Model(*layers[0], *layers[1])

    def _batches(self, batches: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        raise NotImplementedError


class Loader(Autograd):
    """Batches as in torch's own tutorials: torchvision's data set, `ToTensor` on every image, a DataLoader."""

    def __init__(self, task: Task) -> None:
        from torchvision.datasets import MNIST
        from torchvision.transforms import ToTensor

        torch.set_num_threads(1)
        self._data = MNIST(str(task.directory), train=True, transform=ToTensor())
        self._one_hot, self._learning_rate = torch.eye(task.classes), task.learning_rate

    def _batches(self, batches: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in loader(self._data, batches):
            yield images.flatten(1), self._one_hot[labels]


class Tensors(Autograd):
    """Batches from a DataLoader on a `TensorDataset`: pixels converted beforehand, examples fetched one by one."""

    def _batches(self, batches: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        yield from loader(TensorDataset(self._x, self._t), batches)


class Index(Autograd):
    """Batches by one index operation each."""

    def _batches(self, batches: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in torch.from_numpy(batches):
            yield self._x[batch], self._t[batch]


def loader(data: Dataset[Any], batches: IntArray) -> DataLoader[Any]:
    """Return a DataLoader that yields the batches in our order."""
    return DataLoader(data, batch_size=batches.shape[1], sampler=batches.reshape(-1).tolist(), drop_last=True)


def linear(weights: object, biases: object) -> nn.Linear:
    """Return a layer with the given parameters.

    Args:
        weights: Shape (inputs, outputs); `nn.Linear` keeps its transpose.
        biases: Shape (outputs,).
    """
    layer = nn.Linear(*torch.as_tensor(weights).shape)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weights).T)
        layer.bias.copy_(torch.as_tensor(biases))
    return layer
