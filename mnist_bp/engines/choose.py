"""The choice of an engine: the requested one, or the fastest that runs on this machine."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

from mnist_bp.engines.interface import Engine
from mnist_bp.errors import ConfigError, one_line
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape

MODELS_FOR_GPU: Final = 8
"""With `auto`, a GPU trains from this many models on. It trains one per multiprocessor, each slower than on a core.
So many take the 16 cores of an Intel Xeon as long as an H200, computed from the rates in docs/benchmarks.md."""


def choose_engine(
    name: str,
    hidden: int = 30,
    batch_size: int = 10,
    models: int = 1,
    shift: int = 0,
    shape: DatasetShape = MNIST_SHAPE,
) -> tuple[Engine, str | None]:
    """Return the engine for a configured name.

    Args:
        name: `auto` (`cuda` for many models that fit on a GPU's chip, if there is a GPU; else `cpu`, else
            `reference`), `reference` (on the CPU), `cpu` or `cuda`.
        hidden: Hidden units of the network; decides whether it fits on a GPU's chip.
        batch_size: Examples per step; likewise.
        models: Models trained side by side; see `MODELS_FOR_GPU`.
        shift: See `Recipe.shift`; the cuda engine does not move images.
        shape: Of the images, and the classes; decides whether the network fits on a GPU's chip.

    Returns:
        The engine, and a notice if a slower one replaces the chosen one, else None.

    Raises:
        ConfigError: The requested engine cannot run on this machine.
    """
    if name == "reference":
        return _reference("cpu"), None
    if name == "cuda":
        if shift:
            raise ConfigError(
                f"engine cuda does not move images, and shift is {shift}: expected 0; use the engine cpu or reference"
            )
        return _cuda(hidden, batch_size, shape)
    if name == "auto" and models >= MODELS_FOR_GPU and not shift and _has_gpu():
        with suppress(ConfigError):  # this torch cannot use the GPU
            engine, slower = _cuda(hidden, batch_size, shape)
            if slower is None:
                return engine, None
    try:
        from mnist_bp.engines.cpu import compiled_engine

        return compiled_engine(), None
    except Exception as exc:  # a library is missing, or incompatible with the others
        problem = f"numba cannot be used ({type(exc).__name__}: {one_line(str(exc))})"
        if name == "cpu":
            raise ConfigError(
                f"engine cpu: {problem}; expected numba as in requirements.lock: run make setup, "
                "or use the reference engine"
            ) from exc
        return _reference("cpu"), (
            f"{problem}: using the reference engine instead of cpu, which takes about 20 times as long; run make setup"
        )


def same_engine(
    name: str, device: str, hidden: int = 30, batch_size: int = 10, shape: DatasetShape = MNIST_SHAPE
) -> Engine:
    """Return the engine that a run was started with, since any other would round differently.

    Args:
        name: Name of the engine.
        device: Device that it computed on.
        hidden: See `choose_engine`.
        batch_size: See `choose_engine`.
        shape: See `choose_engine`.

    Raises:
        ConfigError: It cannot run on this machine.
    """
    on_gpu = device == "cuda"
    engine, why = choose_engine("cuda" if on_gpu else name, hidden, batch_size, shape=shape)
    if name == "reference":
        return _reference(device)
    if (engine.name, engine.device) != (name, device):
        raise ConfigError(f"this machine can only run the {engine.name} engine on {engine.device} ({why})")
    return engine


def _reference(device: str) -> Engine:
    from mnist_bp.engines.reference import ReferenceEngine

    return ReferenceEngine(device)


def _has_gpu() -> bool:
    """Ask the driver, so that a machine without a GPU does not spend time on importing torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _cuda(hidden: int, batch_size: int, shape: DatasetShape) -> tuple[Engine, str | None]:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"engine cuda: torch {torch.__version__} finds no CUDA device on this machine; "
            "expected one; use the engine auto, cpu or reference"
        )
    from mnist_bp.engines.cuda import CudaEngine, fits, unavailable_reason

    why = unavailable_reason()
    if why is None and not fits(shape.inputs, hidden, shape.classes, batch_size):
        why = f"{hidden:,} hidden units with a batch of {batch_size:,} do not fit on the chip"
        if not shape.like_mnist:
            why = f"{shape.inputs:,} pixels, {shape.classes} classes, {why}"
    if why is None:
        return CudaEngine(), None
    return _reference("cuda"), (
        f"{why}: using the reference engine on the GPU instead of cuda, which launches a kernel for each operation"
    )
