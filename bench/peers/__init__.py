"""The implementations of one network whose training speed is compared, ours among them.

All train 784-30-10 with the lab's rule (weights step along the sum over the batch, biases along the mean), from the
same parameters, on the same batches in the same order. An exception is stated in `Peer.note`. Those with `Peer.recipes`
also train by any other recipe.

An implementation is a class made from a `Task`, with `advance(model, batches) -> model`. Making it is not timed, so it
may convert the data to any layout. Only the process that measures it imports it, so that the memory of one library is
not charged to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import Model, UInt8Array
from mnist_bp.model.recipe import Recipe

Pixels = npt.NDArray[np.float32]


class NotAvailableError(Exception):
    """An implementation cannot run on this machine; the message states why."""


class Trainer(Protocol):
    """An implementation of the training steps."""

    def advance(self, model: Model, batches: Batches) -> Model:
        """Take a step for each batch.

        Args:
            model: The model to start from, float32; not changed.
            batches: The examples of each step, their shifts, and the learning rates.

        Returns:
            The model after S steps, as arrays.
        """
        ...


class Task:
    """The data to train on: a directory of IDX files as torchvision lays them out, read on first use.

    Args:
        directory: Directory that contains `MNIST/raw/`.
        recipe: Decides what a step computes.
        classes: K.
    """

    def __init__(self, directory: Path, recipe: Recipe, classes: int = 10) -> None:
        self.directory, self.recipe, self.classes = directory, recipe, classes

    @cached_property
    def images(self) -> UInt8Array:
        """Training images, shape (N, D)."""
        return read_idx(self.raw / "train-images-idx3-ubyte")

    @cached_property
    def labels(self) -> UInt8Array:
        """Training labels, shape (N,)."""
        return read_idx(self.raw / "train-labels-idx1-ubyte")

    @property
    def test(self) -> tuple[UInt8Array, UInt8Array]:
        """Test images (N, D) and labels (N,)."""
        return read_idx(self.raw / "t10k-images-idx3-ubyte"), read_idx(self.raw / "t10k-labels-idx1-ubyte")

    @property
    def raw(self) -> Path:
        """Directory of the IDX files."""
        return self.directory / "MNIST" / "raw"

    def pixels(self) -> Pixels:
        """Convert the training images to pixels in [0, 1], shape (N, D)."""
        return np.divide(self.images, np.float32(255), dtype=np.float32)

    def one_hot(self) -> Pixels:
        """Make the targets, shape (N, K)."""
        return np.eye(self.classes, dtype=np.float32)[self.labels]


def read_idx(path: Path) -> UInt8Array:
    """Read an uncompressed IDX file of bytes: images as one row each, or labels."""
    content = np.fromfile(path, np.uint8)
    sizes = content[4 : 4 + 4 * content[3]].view(">u4").tolist()
    values = content[4 + 4 * len(sizes) :]
    return values.reshape(sizes[0], -1) if len(sizes) > 1 else values


@dataclass(frozen=True)
class Peer:
    """One row of the table.

    Args:
        name: Name on the command line.
        title: Name in the table.
        code: `module:class` below `bench.peers`.
        divisor: It takes one step for each of this many steps of a fast one, so that a round ends in about a second.
        note: What it computes differently from the others, or empty.
        recipes: Whether it trains by any recipe; otherwise by the lab's alone.
    """

    name: str
    title: str
    code: str
    divisor: int = 1
    note: str = ""
    recipes: bool = False

    def load(self, task: Task) -> Trainer:
        """Import the implementation and prepare the data.

        Raises:
            NotAvailableError: It cannot run on this machine.
        """
        module, _, name = self.code.partition(":")
        trainer: Trainer = getattr(import_module(f"bench.peers.{module}"), name)(task)
        return trainer


_SKLEARN_LOSS: Final = "softmax and log-loss at the output, biases as weights; the same start and order"

PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("cpu", "mnist-bp, cpu engine", "ours:Compiled", recipes=True),
        Peer("reference", "mnist-bp, reference engine", "ours:Reference", 4, recipes=True),
        Peer("lab-leaking", "the lab, its graph leaking", "lab:LeakingLab", 20),
        Peer("lab", "the lab, its graph cut", "lab:Lab", 20),
        Peer("autograd-loader", "nn.Linear, autograd, DataLoader", "autograd:Loader", 10, recipes=True),
        Peer("autograd-tensors", "nn.Linear, autograd, TensorDataset", "autograd:Tensors", 10, recipes=True),
        Peer("autograd-index", "nn.Linear, autograd, by index", "autograd:Index", 4, recipes=True),
        Peer("autograd-tuned", "nn.Linear, autograd, hand-tuned", "autograd:Tuned", 4, recipes=True),
        Peer("eager", "torch eager, out= and addmm_", "eager:Eager"),
        Peer("eager-tuned", "torch eager, hand-tuned further", "eager:Tuned"),
        Peer("numpy", "NumPy, out=", "arrays:NumPy"),
        Peer("sklearn", "scikit-learn, MLPClassifier", "sklearn_mlp:MLP", 4, _SKLEARN_LOSS),
    )
}
