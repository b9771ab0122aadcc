"""The Parquet file of one split of a dataset: its layout, and reading it into memory.

Pixels are one fixed-size binary column, of 784 bytes for MNIST, labels a uint8 column; rows are in the order of the
source. The metadata of the file hold the size of the images and, where they are not MNIST's, the names of the classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape
from mnist_bp.storage.os_errors import DELETE
from mnist_bp.storage.reading import read_verified

LAYOUT: Final[Mapping[str, Any]] = {
    "row_group_size": 6_000,
    "compression": "zstd",
    "compression_level": 6,
    "use_dictionary": False,
}
"""Arguments of `pq.write_table`. They were measured on MNIST; the figures are in docs/benchmarks.md.

- Lists instead of fixed-size binary take 6 to 12 times as long to read. A dictionary of images makes no difference.
- zstd 6 is read in 0.9 of the time of zstd 3 and is 5% smaller; writing takes 0.3 s longer, once for each dataset.
  zstd 9 is another 3% smaller, reads no faster and takes 0.3 s more to write. lz4 is read in 0.7 of the time, 12 ms
  less, but is 43% larger, which takes longer to hash, twice in a run.
- Row groups of 3,000 to 15,000 rows are read equally fast. Smaller ones take less memory while they are read, and the
  10,000 rows of the test split need more than one group for two cores to share them.
"""

MAX_READERS: Final = 4
"""Row groups decompressed in parallel, given as many cores; each is in memory twice while it is copied."""

MAX_ROWS: Final = 100_000_000
"""Rows of the largest split; MNIST has 60,000."""

_ABOUT: Final = b"mnist_bp"
"""Key of the metadata, which are JSON."""


def _schema(shape: DatasetShape) -> pa.Schema:
    pixels, label = pa.binary(shape.inputs), pa.uint8()
    return pa.schema([pa.field("pixels", pixels, nullable=False), pa.field("label", label, nullable=False)])


def split_table(
    images: UInt8Array, labels: UInt8Array, about: Mapping[str, Any], shape: DatasetShape = MNIST_SHAPE
) -> pa.Table:
    """Return the table of a split; the arrays are not copied.

    Args:
        images: Pixels in [0, 255], shape (N, ...) with D pixels per image, contiguous.
        labels: Classes, shape (N,), contiguous.
        about: Metadata of the file, JSON-ready.
        shape: Size of the images, and the classes.
    """
    columns = (
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(shape.inputs), len(images), [None, pa.py_buffer(images)]),
        pa.UInt8Array.from_buffers(pa.uint8(), len(labels), [None, pa.py_buffer(labels)]),
    )
    described = {**about, "image_shape": [shape.height, shape.width]}
    if shape.class_names != MNIST_SHAPE.class_names:
        described["class_names"] = shape.class_names
    return pa.Table.from_arrays(columns, schema=_schema(shape).with_metadata({_ABOUT: json.dumps(described)}))


def about_split(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Return what `split_table` wrote into a file's metadata; empty for a file of another program.

    Raises:
        ValueError: It is not JSON, or no object.
    """
    about = json.loads((metadata.metadata or {}).get(_ABOUT, b"{}"))
    if not isinstance(about, dict):
        raise ValueError(f"its metadata {about!r} are not an object")
    return about


def shape_of(about: Mapping[str, Any]) -> DatasetShape:
    """Return the size of the images and the classes, from `about_split`.

    Raises:
        ValueError: The metadata have another form.
    """
    match about.get("image_shape", [MNIST_SHAPE.height, MNIST_SHAPE.width]):
        case [int(height), int(width)] if height > 0 and width > 0:
            names = about.get("class_names", MNIST_SHAPE.class_names)
            if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
                return DatasetShape(height, width, tuple(names))
    raise ValueError("its metadata have no image_shape [height, width] with class_names")


def load_split(file: FileDigest) -> tuple[UInt8Array, UInt8Array]:
    """Read one split into memory.

    Returns:
        Images, pixels in [0, 255], shape (N, D), uint8; and labels, shape (N,), uint8.

    Raises:
        ChecksumError: The file does not have its digest; nothing was parsed.
        DataFormatError: It is not a split of the cache.
        StoreError: It is missing or unreadable.
    """
    content = read_verified(Path(file.path), file.sha256, size=file.size)
    with _as_format_error(file.path, DELETE):
        return decode_split(content)


def count_rows(content: bytes, what: str, hint: str) -> int:
    """Check the metadata of a verified split, and return its number of rows.

    Raises:
        DataFormatError: It is not a split of the cache.
    """
    with _as_format_error(what, hint):
        return int(_metadata(content)[0].num_rows)


@contextmanager
def _as_format_error(what: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as exc:  # Arrow raises OSError if decoding fails
        raise DataFormatError(f"{what} is not a split of the cache: {exc}; {hint}") from exc


def _metadata(content: bytes) -> tuple[pq.FileMetaData, DatasetShape]:
    metadata = pq.read_metadata(pa.BufferReader(content))
    shape, found = shape_of(about_split(metadata)), metadata.schema.to_arrow_schema()
    if not found.equals(expected := _schema(shape)):  # metadata is not compared
        raise ValueError(f"its columns are {describe_schema(found)}, expected {describe_schema(expected)}")
    if not 0 <= metadata.num_rows <= MAX_ROWS:
        raise ValueError(f"it has {metadata.num_rows:,} rows, expected at most {MAX_ROWS:,}")
    return metadata, shape


def decode_split(content: bytes) -> tuple[UInt8Array, UInt8Array]:
    """Decompress a verified split, several row groups in parallel, each to its place in the arrays.

    Neither `pq.read_table` nor `to_numpy` is used: both import pandas if it is installed (0.3 s, ten times the time of
    reading), and a table of all rows would be in memory in addition to the arrays.

    Args:
        content: The bytes of a Parquet file.

    Returns:
        See `load_split`.

    Raises:
        pyarrow.ArrowException, OSError: It is not Parquet.
        ValueError: It has other columns, too many rows, or labels that are no classes.
    """
    metadata, shape = _metadata(content)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    images, labels = np.empty((sum(sizes), shape.inputs), np.uint8), np.empty(sum(sizes), np.uint8)

    def read_group(group: int) -> None:
        start = sum(sizes[:group])
        rows = pq.ParquetFile(pa.BufferReader(content), metadata=metadata).read_row_group(group, use_threads=False)
        for batch in rows.to_batches():
            target = slice(start, start + len(batch))
            images[target], labels[target] = (
                byte_values(batch.column("pixels"), shape.inputs),
                byte_values(batch.column("label")),
            )
            start += len(batch)

    with ThreadPoolExecutor(min(MAX_READERS, pa.cpu_count())) as readers:
        for _ in readers.map(read_group, range(len(sizes))):
            pass  # iterating raises a reader's exception
    if (largest := labels.max(initial=0)) >= shape.classes:  # an engine would write outside of its arrays
        raise ValueError(f"it has the label {largest}, expected at most {shape.classes - 1}")
    return images, labels


def byte_values(column: pa.Array, *shape: int) -> UInt8Array:
    """Return a column of bytes as an array of shape (N, *shape), without copying it."""
    width = math.prod(shape)
    values = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return values.reshape(-1, *shape)


def describe_schema(schema: pa.Schema) -> str:
    """Name the columns of a file and their types, for messages."""
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"
