"""Models that are trained in memory, for commands that compare many of them: no run is written or published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mnist_bp.data.download import fetch_dataset
from mnist_bp.data.parquet import load_split
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.engines.interface import Engine
from mnist_bp.model.parameters import Model, UInt8Array
from mnist_bp.training.loop import Checkpoint, example_orders, train

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig


class Examples(NamedTuple):
    """Images in [0, 255], shape (N, D), and their labels, shape (N,)."""

    images: UInt8Array
    labels: UInt8Array


def load_mnist(data_dir: Path) -> tuple[Examples, Examples]:
    """Read MNIST's training and test examples from the caches, or download them.

    Args:
        data_dir: Data directory.

    Raises:
        DownloadError, ChecksumError: MNIST cannot be downloaded intact.
        StoreError: The data directory cannot be used.
    """
    data = preprocess_dataset(fetch_dataset("mnist", data_dir), data_dir)
    return Examples(*load_split(data.train)), Examples(*load_split(data.test))


def train_trials(
    config: RunConfig,
    engine: Engine,
    examples: Examples,
    models: Sequence[Model],
    seeds: Sequence[int],
    on_progress: Callable[[int, float], None] | None = None,
) -> Iterator[Checkpoint]:
    """Train models on all examples; see `mnist_bp.training.loop.train`.

    Args:
        config: Recipe, steps and the like; its seeds and its engine are not used.
        engine: Engine that computes the steps.
        examples: Training examples.
        models: The models to start from.
        seeds: For each model, the seed of its order of the examples and of their shifts.
        on_progress: Called with the steps taken and the training seconds.

    Yields:
        The models every `checkpoint_every` steps and after the last step.
    """
    images, labels = examples
    orders = example_orders(config, images, seeds)
    yield from train(config, engine.load(images, labels), models, orders, on_progress)
