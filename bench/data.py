"""What is measured on."""

from __future__ import annotations

from pathlib import Path

from mnist_bp.config import data_dir_from_environment
from mnist_bp.download import fetch
from mnist_bp.preprocess import preprocess_dataset
from mnist_bp.records import CachedDataset


def default_dataset() -> CachedDataset:
    """Return MNIST, or the bundled sample where it cannot be had, from the data directory of the environment."""
    data_dir = Path(data_dir_from_environment())
    return preprocess_dataset(fetch("auto", data_dir, last_attempt=True), data_dir)
