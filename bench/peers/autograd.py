"""The implementation of tutorials: `nn.Linear`, autograd and `optim.SGD`, with a DataLoader and without.

Two parameter groups of the optimizer give the lab's rule: weights at the learning rate, biases at a B-th of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bench.peers import Task
from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import WIDTH, IntArray, Model


class Autograd:
    """Train with autograd on batches that a subclass supplies."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        self._x, self._t = torch.from_numpy(task.pixels()), torch.from_numpy(task.one_hot())
        self._recipe = task.recipe

    def advance(self, model: Model, batches: Batches) -> Model:
        """See `Trainer`."""
        first, second = (linear(weights, biases) for weights, biases in (model[:2], model[2:]))
        hidden = nn.ReLU() if self._recipe.activation == "relu" else nn.Sigmoid()
        network = nn.Sequential(first, hidden, second)
        loss = cross_entropy if self._recipe.loss == "cross_entropy" else squared_error
        share = 1.0 if self._recipe.bias_gradient == "sum" else 1 / batches.rows.shape[1]
        optimizer = optimizer_of(first, second, one_rate=share == 1)
        for (x, t), rate in zip(self._examples(batches), batches.rates.tolist(), strict=True):
            for group, factor in zip(optimizer.param_groups, (1.0, share), strict=False):
                group["lr"] = rate * factor
            optimizer.zero_grad()
            L: Any = loss(network(x), t)
            L.backward()
            optimizer.step()
        layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in (first, second)]
        return Model(*layers[0], *layers[1])

    def _examples(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        """Supply x (B, D), with the pixels moved, and t (B, K) of each step."""
        if not self._recipe.shift:
            yield from self._batches(batches.rows)
            return
        for (x, t), offsets in zip(self._batches(batches.rows), torch.from_numpy(batches.offsets), strict=True):
            pixels = torch.arange(x.shape[1]) - offsets[:, None]
            yield x.gather(1, pixels % x.shape[1]), t

    def _batches(self, rows: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        raise NotImplementedError


class Loader(Autograd):
    """Batches as in torch's own tutorials: torchvision's data set, `ToTensor` on every image, a DataLoader."""

    def __init__(self, task: Task) -> None:
        from torchvision.datasets import MNIST
        from torchvision.transforms import ToTensor

        torch.set_num_threads(1)
        self._data = MNIST(str(task.directory), train=True, transform=ToTensor())
        self._one_hot, self._recipe = torch.eye(task.classes), task.recipe

    def _batches(self, rows: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in loader(self._data, rows):
            yield images.flatten(1), self._one_hot[labels]


class Tensors(Autograd):
    """Batches from a DataLoader on a `TensorDataset`: pixels converted beforehand, examples fetched one by one."""

    def _batches(self, rows: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        yield from loader(TensorDataset(self._x, self._t), rows)


class Index(Autograd):
    """Batches by one index operation each."""

    def _batches(self, rows: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in torch.from_numpy(rows):
            yield self._x[batch], self._t[batch]


class Tuned(Autograd):
    """As few operations as `nn.Linear`, autograd and `optim.SGD` allow.

    Twenty batches are fetched at once, each already moved: a moved image is a row of as many pixels that begins
    elsewhere, if zeros stand between the images. An optimizer that is `fused` or `foreach` was not faster.
    """

    CHUNK: Final = 20
    """Batches fetched at once: 0.6 MB, which are still in the L2 cache when they are used."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._margin = self._recipe.shift * (WIDTH + 1)
        self._size = self._x.shape[1]
        padded = functional.pad(self._x, (self._margin, self._margin))
        self._stride = padded.shape[1]
        self._rows = padded.view(-1).unfold(0, self._size, 1)  # of pixels, from anywhere

    def _examples(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        B = batches.rows.shape[1]
        starts = torch.from_numpy(batches.rows * self._stride + self._margin - batches.offsets)
        rows_of = torch.from_numpy(batches.rows)
        for some, rows in zip(torch.split(starts, self.CHUNK), torch.split(rows_of, self.CHUNK), strict=True):
            xs = self._rows.index_select(0, some.reshape(-1)).view(-1, B, self._size)
            ts = self._t.index_select(0, rows.reshape(-1)).view(-1, B, self._t.shape[1])
            yield from zip(xs.unbind(0), ts.unbind(0), strict=True)


def loader(data: Dataset[Any], rows: IntArray) -> DataLoader[Any]:
    """Return a DataLoader that yields the batches in our order."""
    return DataLoader(data, batch_size=rows.shape[1], sampler=rows.reshape(-1).tolist(), drop_last=True)


def optimizer_of(first: nn.Linear, second: nn.Linear, *, one_rate: bool) -> torch.optim.SGD:
    """Return the optimizer of both layers: one group if weights and biases have one rate, else one group for each."""
    weights, biases = (first.weight, second.weight), (first.bias, second.bias)
    groups = [[*weights, *biases]] if one_rate else [[*weights], [*biases]]
    return torch.optim.SGD([{"params": group} for group in groups])


def squared_error(z2: Tensor, t: Tensor) -> Tensor:
    """Compute half the squared error of sigmoids, summed over batch and classes."""
    return (z2.sigmoid() - t).square().sum() / 2


def cross_entropy(z2: Tensor, t: Tensor) -> Tensor:
    """Compute the cross-entropy of sigmoids, summed over batch and classes."""
    return functional.binary_cross_entropy_with_logits(z2, t, reduction="sum")


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
