"""The ways to train one network that are measured against each other, ours among them.

All train 784-30-10 with the lab's rule (weights step along the sum over the batch, biases along the mean), from the
same parameters, on the same batches in the same order. What differs is stated in `Peer.note`.

A way is a class made from a `Task`, with `advance(model, batches) -> model`; making it is not timed, so it may convert
the data to whatever layout it likes. It is imported only by the process that measures it: what one library costs in
memory is not charged to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mnist_bp.model.parameters import IntArray, Model, UInt8Array

Pixels = npt.NDArray[np.float32]


class NotAvailableError(Exception):
    """This machine or this installation cannot run a way; the message says why."""


class Trainer(Protocol):
    """One way to train."""

    def advance(self, model: Model, batches: IntArray) -> Model:
        """Take a step for each batch.

        Args:
            model: Where to start, float32; not changed.
            batches: Row numbers of the examples of each step, shape (S, B).

        Returns:
            The model after S steps, as arrays.
        """
        ...


class Task:
    """What is to be trained on: a directory of IDX files as torchvision lays them out, read when it is asked for.

    Args:
        directory: Holds `MNIST/raw/`.
        learning_rate: Of the weights.
        classes: K.
    """

    def __init__(self, directory: Path, learning_rate: float, classes: int = 10) -> None:
        self.directory, self.learning_rate, self.classes = directory, learning_rate, classes

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
        """Where the files are."""
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
        name: How it is asked for.
        title: What it is.
        code: `module:class` below `bench.peers`.
        needs: Libraries it cannot do without.
        fewer: It takes one step where the fast ones take this many, so that a round ends in about a second.
        note: In what it differs from the others, if it does.
    """

    name: str
    title: str
    code: str
    needs: tuple[str, ...] = ("torch",)
    fewer: int = 1
    note: str = ""

    def load(self, task: Task) -> Trainer:
        """Import it and prepare the data.

        Raises:
            NotAvailableError: It cannot run here.
        """
        module, _, name = self.code.partition(":")
        trainer: Trainer = getattr(import_module(f"bench.peers.{module}"), name)(task)
        return trainer


_SKLEARN_LOSS: Final = "softmax and log-loss at the output, biases as weights; the same start and order"

PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("cpu", "mnist-bp, cpu engine", "ours:Compiled", ("numpy",)),
        Peer("reference", "mnist-bp, reference engine", "ours:Reference", fewer=4),
        Peer("lab-leaking", "the lab, its graph leaking", "lab:LeakingLab", ("torch", "torchvision"), 20),
        Peer("lab", "the lab, its graph cut", "lab:Lab", ("torch", "torchvision"), 20),
        Peer("autograd-loader", "nn.Linear, autograd, DataLoader", "autograd:Loader", ("torch", "torchvision"), 10),
        Peer("autograd-tensors", "nn.Linear, autograd, TensorDataset", "autograd:Tensors", fewer=10),
        Peer("autograd-index", "nn.Linear, autograd, by index", "autograd:Index", fewer=4),
        Peer("eager", "torch eager, out= and addmm_", "eager:Eager"),
        Peer("eager-tuned", "torch eager, hand-tuned further", "eager:Tuned"),
        Peer("numpy", "NumPy, out=", "arrays:NumPy", ("numpy",)),
        Peer("sklearn", "scikit-learn, MLPClassifier", "sklearn_mlp:MLP", ("sklearn",), 4, _SKLEARN_LOSS),
    )
}
