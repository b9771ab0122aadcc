"""The reference engine: `backprop.py` step by step, one torch operation for each line of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy.typing as npt
import torch
from torch import Tensor

from mnist_bp.engines.interface import PIXEL_SCALE, Batches
from mnist_bp.model.backprop import backward, descend, forward
from mnist_bp.model.parameters import FloatArray, Model, Parameters, UInt8Array, writable
from mnist_bp.model.recipe import Activation, Recipe

PREDICT_ROWS: Final = 10_000
"""Images predicted at a time; their pixels as floats take 31 MB."""


@dataclass(frozen=True)
class ReferenceEngine:
    """Train with the functions of `mnist_bp.model.backprop`.

    Args:
        device: `cpu` or `cuda`.
    """

    name: ClassVar[str] = "reference"
    device: str = "cpu"

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ReferenceData:
        """Copy a dataset to the device, as bytes; see `Engine.load`."""
        return ReferenceData(
            _tensor(images).to(self.device),
            _tensor(labels).to(self.device, torch.int64),
            classes,
        )


@dataclass(frozen=True)
class ReferenceData:
    """See `ResidentData`.

    Args:
        images: Shape (N, D), uint8.
        labels: Shape (N,), int64.
        classes: K.
    """

    images: Tensor
    labels: Tensor
    classes: int

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        """Train one model after the other; see `ResidentData.advance`."""
        with one_thread():
            return [self._advance(model, each, recipe) for model, each in zip(models, batches, strict=True)]

    def _advance(self, model: Model, batches: Batches, recipe: Recipe) -> Model:
        parameters, device = self._tensors(model), self.images.device
        dtype = parameters.W1.dtype
        one_hot = torch.eye(self.classes, dtype=dtype, device=device)  # (K, K)
        columns = torch.arange(self.images.shape[1], device=device)  # (D,)
        rows, offsets = _tensor(batches.rows).to(device), _tensor(batches.offsets).to(device, torch.int64)
        for batch, offset, rate in zip(rows, offsets, batches.rates.tolist(), strict=True):
            # pixel p of an image comes from p - offset; those that wrap around are zero
            pixels = self.images[batch].gather(1, (columns - offset[:, None]) % len(columns))  # (B, D)
            x = pixels.to(dtype) / 255  # (B, D)
            t = one_hot[self.labels[batch]]  # (B, K)
            activations = forward(parameters, x, recipe.activation)
            gradients = backward(parameters, x, activations, t, recipe)
            descend(parameters, gradients, rate)
        return parameters.map(lambda tensor: tensor.cpu().numpy())

    def predict(self, model: Model, activation: Activation, scale: float = PIXEL_SCALE) -> FloatArray:
        """Predict in blocks of `PREDICT_ROWS` images; see `ResidentData.predict`."""
        parameters = self._tensors(model)
        a2 = [
            forward(parameters, images.to(parameters.W1.dtype) * scale, activation).a2
            for images in (
                self.images[start : start + PREDICT_ROWS] for start in range(0, len(self.images), PREDICT_ROWS)
            )
        ]
        found: FloatArray = torch.cat(a2).cpu().numpy()
        return found

    def _tensors(self, model: Model) -> Parameters[Tensor]:
        return model.map(lambda array: _tensor(array).to(self.images.device, copy=True))


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(writable(array))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: steps as small as these are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
