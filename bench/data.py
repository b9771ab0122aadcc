"""The dataset that is measured on."""

from __future__ import annotations

from pathlib import Path

from mnist_bp.data.download import fetch
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.places import data_dir_from_environment


def default_dataset() -> CachedDataset:
    """Return MNIST, or the bundled sample if MNIST cannot be downloaded, from the default data directory."""
    return default_sources()[1]


def default_sources() -> tuple[RawDataset, CachedDataset]:
    """Return the download that `default_dataset` is made from, and the dataset."""
    data_dir = Path(data_dir_from_environment())
    raw = fetch("auto", data_dir, last_attempt=True)
    return raw, preprocess_dataset(raw, data_dir)
