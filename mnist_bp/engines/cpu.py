"""The CPU engine: compiled kernels that visit only the nonzero pixels, one model per core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mnist_bp.engines.cpu_kernel import CLASS_LANES, HIDDEN_LANES, Padded, compiled_kernels
from mnist_bp.engines.interface import PIXEL_SCALE, Batches
from mnist_bp.engines.parallel import on_every_core
from mnist_bp.engines.pixel_words import compiled_packer, max_words
from mnist_bp.model.parameters import FloatArray, Model, Parameters, UInt8Array
from mnist_bp.model.recipe import Activation, Recipe


@dataclass(frozen=True)
class CpuEngine:
    """Train with the kernels of `mnist_bp.engines.cpu_kernel`."""

    name: ClassVar[str] = "cpu"
    device: ClassVar[str] = "cpu"

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> CpuData:
        """Pack the nonzero pixels of a dataset, and compile the kernels; see `Engine.load`."""
        compiled_kernels("float32")
        inputs = images.shape[1]
        eights = np.pad(images, ((0, 0), (0, -inputs % 8))) if inputs % 8 else np.ascontiguousarray(images)
        words = np.zeros(max_words(images), np.uint64)
        starts = np.empty(len(images) + 1, np.uint32)
        compiled_packer()(eights.view(np.uint64), words.view(np.uint8), starts)
        return CpuData(words, starts, np.ascontiguousarray(labels), classes)


def compiled_engine() -> CpuEngine:
    """Compile the kernels, so that any error in compiling them occurs here, and return the engine."""
    compiled_kernels("float32")
    compiled_packer()
    return CpuEngine()


@dataclass(frozen=True)
class CpuData:
    """See `ResidentData`.

    Args:
        words: Nonzero pixels, packed as in `mnist_bp.engines.pixel_words`.
        starts: Index of each image's first word, shape (N + 1,).
        labels: Shape (N,).
        classes: K.
    """

    words: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.uint32]
    labels: UInt8Array
    classes: int

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        """Train each model on a separate core; see `ResidentData.advance`."""
        dtype = models[0].W1.dtype
        targets = _pad_rows(np.eye(self.classes, dtype=dtype), CLASS_LANES)
        share = 1 if recipe.bias_gradient == "sum" else 1 / batches[0].rows.shape[1]
        forms = recipe.loss == "cross_entropy", recipe.activation == "relu"
        x = _pixel_table(dtype, PIXEL_SCALE)
        train = compiled_kernels(dtype.name).train

        def one(model: Model, each: Batches) -> Model:
            padded, rows, offsets = _pad(model), np.ascontiguousarray(each.rows), np.ascontiguousarray(each.offsets)
            rates = np.stack([-each.rates, np.full_like(each.rates, share)], axis=1).astype(dtype)
            train(padded, self.words, self.starts, self.labels, rows, offsets, x, targets, rates, *forms)
            return _unpad(padded, model)

        return on_every_core(one, models, batches)

    def predict(self, model: Model, activation: Activation, scale: float = PIXEL_SCALE) -> FloatArray:
        """Predict with the forward pass of the kernel; see `ResidentData.predict`."""
        dtype, padded = model.W1.dtype, _pad(model)
        a2 = aligned_zeros((len(self.labels), padded.W2.shape[1]), dtype)
        x = _pixel_table(dtype, scale)
        compiled_kernels(dtype.name).predict(padded, self.words, self.starts, x, a2, activation == "relu")
        return a2[:, : self.classes]


def aligned_zeros(shape: tuple[int, int], dtype: npt.DTypeLike) -> FloatArray:
    """Make an array that starts on a cache line, so that its rows of whole vectors do as well."""
    line, size = 64, shape[0] * shape[1] * np.dtype(dtype).itemsize
    room = np.zeros(size + line, np.uint8)
    start = -room.ctypes.data % line
    return room[start : start + size].view(dtype).reshape(shape)


def _pad_rows(array: FloatArray, lanes: int) -> FloatArray:
    """Copy a matrix, or a vector as one row, padding each row with zeros to a whole number of vectors."""
    rows = np.atleast_2d(array)
    padded = aligned_zeros((len(rows), rows.shape[1] + -rows.shape[1] % lanes), array.dtype)
    padded[:, : rows.shape[1]] = rows
    return padded


def _pad(model: Model) -> Padded:
    # the kernel reads two rows at a time
    hidden = model.W2 if len(model.W2) % 2 == 0 else np.pad(model.W2, ((0, 1), (0, 0)))
    return Padded(
        W1=_in_blocks(model.W1),
        b1=_pad_rows(model.b1, HIDDEN_LANES),
        W2=_pad_rows(hidden, CLASS_LANES),
        W2_T=_pad_rows(model.W2.T, HIDDEN_LANES),
        b2=_pad_rows(model.b2, CLASS_LANES),
        hidden_mask=_pad_rows(np.ones_like(model.b1), HIDDEN_LANES),
        class_mask=_pad_rows(np.ones_like(model.b2), CLASS_LANES),
    )


def _in_blocks(W1: FloatArray) -> FloatArray:
    """Copy W1 into blocks of hidden units, one after the other."""
    D, H = W1.shape
    blocks = aligned_zeros((-(-H // HIDDEN_LANES) * D, HIDDEN_LANES), W1.dtype)
    for first in range(0, H, HIDDEN_LANES):
        units = W1[:, first : first + HIDDEN_LANES]
        blocks[first // HIDDEN_LANES * D :][:D, : units.shape[1]] = units
    return blocks.reshape(1, -1)


def _unpad(padded: Padded, like: Model) -> Model:
    D, H, K = *like.W1.shape, like.W2.shape[1]
    blocks = padded.W1.reshape(-1, D, HIDDEN_LANES)
    W1 = blocks.swapaxes(0, 1).reshape(D, -1)  # a view if there is one block
    return Parameters(W1[:, :H].copy(), padded.b1[0, :H].copy(), padded.W2[:H, :K].copy(), padded.b2[0, :K].copy())


def _pixel_table(dtype: npt.DTypeLike, scale: float) -> FloatArray:
    """Tabulate x for every byte; in float32 with scale 1 / 255 these are the bits of `byte / 255`."""
    return (np.arange(256, dtype=np.float64) * scale).astype(dtype)[np.newaxis]
