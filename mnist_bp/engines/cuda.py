"""The CUDA engine: one kernel launch trains several models for many steps, one model per multiprocessor.

The dataset stays on the GPU as bytes, and the order of the examples is uploaded before the launch. The kernel in
`mnist_bp.engines.cuda_kernel` keeps the weights on the chip. With TRITON_INTERPRET=1 the same code runs on the CPU, far
too slowly to train, so that tests can check it against the equations without a GPU.

If Triton cannot be used (see `unavailable_reason`), or a network is too large for the chip (see `fits`), the reference
engine is used on the GPU instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mnist_bp.engines.interface import PIXEL_SCALE, Batches
from mnist_bp.engines.reference import ReferenceData, ReferenceEngine
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import FloatArray, Model, Parameters, UInt8Array
from mnist_bp.model.recipe import Activation, Recipe

try:
    from mnist_bp.engines import cuda_kernel

    _IMPORT_ERROR = None
except Exception as exc:  # triton is missing, or incompatible with this torch
    _IMPORT_ERROR = f"triton cannot be imported ({type(exc).__name__}: {exc})"

LAUNCH: Final = {"num_warps": 8, "num_stages": 1, "maxnreg": 255, "enable_fp_fusion": True}
"""Compiler options of the kernel. `maxnreg` is set because each program has a whole multiprocessor: by default, ptxas
gave variants of this kernel 32 registers per thread, as if eight programs shared one, and spilled the rest."""

MAX_WEIGHTS: Final = 32 * 1024
"""Weights in the padded W1: 128 of a thread's 255 registers. The lab's shape spills no registers (tested); close to
this limit, and in float64, some are spilled to the L1 cache, which costs only time."""

MAX_HIDDEN: Final = 128
MAX_CLASSES: Final = 32
MAX_BATCH: Final = 16
"""Images per step: more would leave no registers for their sums, and the kernel's code grows with them."""

_TILE: Final = 1024
"""Groups of pixels times padded hidden units in a tile of W1: 4 for each of 256 threads."""


class Tiling(NamedTuple):
    """Sizes that the kernel is compiled for; see `cuda_kernel.train`."""

    WORDS: int
    C: int
    HP: int
    KP: int
    BP: int

    @property
    def pixels(self) -> int:
        """Rows of the padded W1: tiles of 4 C pixels, in whole groups of four."""
        return -(-self.WORDS // (4 * self.C)) * 16 * self.C


def tiling(inputs: int, hidden: int, classes: int, batch: int) -> Tiling:
    """Compute the sizes for a network of D, H and K, trained in batches of B.

    Raises:
        ConfigError: It does not fit on the chip; states the figure.
    """
    for name, value, limit in (
        ("hidden units", hidden, MAX_HIDDEN),
        ("classes", classes, MAX_CLASSES),
        ("images in a batch", batch, MAX_BATCH),
    ):
        if value > limit:
            raise _too_large(f"{value:,} {name}", limit)
    HP = _power_of_two(hidden, 32)
    sizes = Tiling(-(-inputs // 4), _TILE // HP, HP, _power_of_two(classes, 16), MAX_BATCH)
    if (weights := sizes.pixels * HP) > MAX_WEIGHTS:
        raise _too_large(
            f"{inputs:,} inputs by {hidden:,} hidden units, {weights:,} weights with their padding,",
            MAX_WEIGHTS,
        )
    return sizes


def fits(inputs: int, hidden: int, classes: int, batch: int) -> bool:
    """Return whether a network of D, H and K, trained in batches of B, fits on the chip."""
    try:
        tiling(inputs, hidden, classes, batch)
    except ConfigError:
        return False
    return True


@lru_cache(maxsize=1)
def unavailable_reason() -> str | None:
    """Return why this engine cannot run on this machine; on a GPU, compile and launch a kernel of one line to check.

    Returns:
        The reason, or None if it can run.
    """
    if _IMPORT_ERROR is not None:
        return _IMPORT_ERROR
    if not cuda_kernel.INTERPRETED and not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA device"
    try:
        number = torch.ones(1, device=_device())
        cuda_kernel.probe[(1,)](number)
        found = number.item()
    except Exception as exc:  # no C compiler for Triton's launcher, a driver that is too old, ...
        return f"triton cannot launch a kernel ({type(exc).__name__}: {exc})"
    return None if found == 2.0 else f"triton's kernels compute wrong results (1 + 1 is {found})"


@dataclass(frozen=True)
class CudaEngine:
    """Train with the kernel of `mnist_bp.engines.cuda_kernel`."""

    name: ClassVar[str] = "cuda"

    @property
    def device(self) -> str:
        """`cuda`, or `cpu` if Triton interprets."""
        return _device()

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> CudaData:
        """Move a dataset to the GPU, rows padded to whole words; see `Engine.load`.

        Raises:
            ConfigError: The engine cannot run on this machine.
        """
        if reason := unavailable_reason():
            raise ConfigError(f"engine cuda: {reason}; expected a GPU that Triton can use, or use the reference engine")
        inputs = images.shape[1]
        whole = np.pad(images, ((0, 0), (0, -inputs % 4))) if inputs % 4 else np.ascontiguousarray(images)
        return CudaData(ReferenceEngine(self.device).load(whole, labels, classes), inputs)


@dataclass(frozen=True)
class CudaData:
    """See `ResidentData`.

    Args:
        resident: Pixels, shape (N, D rounded up to words), uint8, and labels, shape (N,), int64.
        inputs: D.
    """

    resident: ReferenceData
    inputs: int

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        """Train all models in one launch; see `ResidentData.advance`.

        Raises:
            ConfigError: The network does not fit on the chip, or images are moved.
        """
        if any(each.offsets.any() for each in batches):
            raise ConfigError(
                "engine cuda does not move images: expected offsets of 0; use the engine cpu or reference"
            )
        (steps, B), (D, H), K = batches[0].rows.shape, models[0].W1.shape, len(models[0].b2)
        sizes = tiling(D, H, K, B)
        padded = _padded(models, sizes).map(self._upload)
        order = self._upload(np.stack([each.rows for each in batches]).astype(np.int32))  # (M, S, B)
        rates = self._upload(np.stack([each.rates for each in batches]).astype(models[0].W1.dtype))  # (M, S)
        words = self.resident.images.view(torch.int32)  # (N, WORDS)
        with np.errstate(all="ignore"):  # the interpreter computes with NumPy, which warns of saturated sigmoids
            cuda_kernel.train[(len(models),)](
                words, self.resident.labels, order, *padded, rates, steps,
                H=H, K=K, B=B, **sizes._asdict(), MEAN=recipe.bias_gradient == "mean",
                CROSS_ENTROPY=recipe.loss == "cross_entropy", RELU=recipe.activation == "relu", **LAUNCH,
            )  # fmt: skip
        W1, b1, W2, b2 = padded.map(lambda tensor: tensor.cpu().numpy())
        return [
            Parameters(W1[m, :D, :H].copy(), b1[m, :H].copy(), W2[m, :H, :K].copy(), b2[m, :K].copy())
            for m in range(len(models))
        ]

    def predict(self, model: Model, activation: Activation, scale: float = PIXEL_SCALE) -> FloatArray:
        """Predict with the reference's forward pass, on this device; see `ResidentData.predict`."""
        W1 = np.pad(model.W1, ((0, -self.inputs % 4), (0, 0)))  # rows for the zero pixels that pad the last word
        return self.resident.predict(model._replace(W1=W1), activation, scale)

    def _upload(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.resident.images.device)


def _device() -> str:
    return "cpu" if _IMPORT_ERROR is None and cuda_kernel.INTERPRETED else "cuda"


def _power_of_two(number: int, smallest: int) -> int:
    return max(smallest, 1 << (number - 1).bit_length())


def _too_large(what: str, limit: int) -> ConfigError:
    return ConfigError(
        f"engine cuda keeps a network on the chip, and {what} do not fit: expected at most {limit:,}; "
        "use the engine reference or cpu"
    )


def _padded(models: Sequence[Model], sizes: Tiling) -> Parameters[FloatArray]:
    """Stack models, padded with zeros: shapes (M, DP, HP), (M, HP), (M, HP, KP), (M, KP)."""
    shapes = (sizes.pixels, sizes.HP), (sizes.HP,), (sizes.HP, sizes.KP), (sizes.KP,)
    padded = Parameters(*(np.zeros((len(models), *shape), models[0].W1.dtype) for shape in shapes))
    for m, model in enumerate(models):
        for stacked, array in zip(padded, model, strict=True):
            stacked[m][tuple(slice(length) for length in array.shape)] = array
    return padded
