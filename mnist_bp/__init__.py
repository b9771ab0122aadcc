"""Retrain a small sigmoid network on MNIST with every gradient written by hand.

    from mnist_bp import load_model

    model = load_model("champion:mnist")
    outputs = model(images)  # uint8 (N, 28, 28) -> float32 (N, 10)

The library knows nothing of Prefect. Importing it imports neither torch, torchvision nor boto3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_bp.registry.loading import TrainedModel as TrainedModel
    from mnist_bp.registry.loading import load_model as load_model

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what users of a model need when they first ask for it, so that the library itself imports nothing."""
    if name in ("TrainedModel", "load_model"):
        from mnist_bp.registry import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
