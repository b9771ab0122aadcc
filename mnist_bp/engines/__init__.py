"""What computes the training steps. Every engine does the same arithmetic; only where and how fast differs.

An engine is handed parameters, uint8 images, labels and the batches of a range of steps, and returns new parameters.
It draws nothing at random and keeps nothing between calls, so a range may be cut anywhere without changing a bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mnist_bp.errors import ConfigError
from mnist_bp.records import BiasGradient

if TYPE_CHECKING:  # a name can be chosen, and refused, without the 2 s of importing torch
    from torch import Tensor

    from mnist_bp.network import Parameters


class Engine(Protocol):
    """The one interface of all engines."""

    @property
    def name(self) -> str:
        """What the manifest records."""
        ...

    @property
    def device(self) -> str:
        """Where the steps run: `cpu` or `cuda`."""
        ...

    def advance(
        self,
        parameters: Parameters,
        images: Tensor,
        labels: Tensor,
        batches: Tensor,
        *,
        learning_rate: float,
        bias_gradient: BiasGradient,
    ) -> Parameters:
        """Train for as many steps as there are batches.

        Args:
            parameters: Where to start; not changed.
            images: Pixels in [0, 255], shape (N, D), uint8, on `device`.
            labels: Classes in [0, K), shape (N,), int64, on `device`.
            batches: Row numbers of the examples of each step, shape (S, B), int64, on `device`.
            learning_rate: Step size.
            bias_gradient: See `mnist_bp.backprop`.

        Returns:
            The parameters after S steps, on `device`.
        """
        ...


def choose_engine(name: str) -> Engine:
    """Find the engine for a configured name.

    Args:
        name: `auto` (the GPU where there is one, else the CPU), `reference` (the CPU) or `cuda` (the GPU).

    Raises:
        ConfigError: `cuda` was asked for and there is none.
    """
    import torch

    from mnist_bp.engines.reference import ReferenceEngine

    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError(
            f"--engine cuda: torch {torch.__version__} finds no CUDA device on this machine; "
            "expected one; use --engine auto or --engine reference"
        )
    return ReferenceEngine("cuda" if name != "reference" and has_gpu else "cpu")
