"""One split of a dataset as a Parquet file: its layout, and how it is read into memory.

Pixels are one fixed-size column of 784 bytes, labels a uint8 column, rows in the order of the source.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import PIXELS, UInt8Array
from mnist_bp.results import FileDigest
from mnist_bp.storage.files import read_verified

LAYOUT: Final[Mapping[str, Any]] = {
    "row_group_size": 6_000,
    "compression": "zstd",
    "compression_level": 6,
    "use_dictionary": False,
}
"""How the files are written, in `pq.write_table`'s terms; measured on MNIST; the figures are in docs/benchmarks.md.

- Lists in place of fixed-size binary take 6 to 12 times as long to read. A dictionary of images changes nothing.
- zstd 6 reads in 0.9 of the time of zstd 3 and is 5% smaller; it is 0.3 s slower to write, once for each dataset.
  zstd 9 is 3% smaller again, no faster to read and takes 0.3 s more. lz4 reads in 0.7 of the time, 12 ms less, but is
  43% larger, and what is larger is hashed longer, twice in a run.
- Row groups of 3,000 to 15,000 read alike; smaller ones take less memory while they are read, and the test split's
  10,000 rows must be more than one for two cores to share them.
"""

MAX_READERS: Final = 4
"""Row groups decompressed at once, where there are as many cores; each is in memory twice while it is copied."""

_SCHEMA: Final = pa.schema(
    [pa.field("pixels", pa.binary(PIXELS), nullable=False), pa.field("label", pa.uint8(), nullable=False)]
)


def split_table(images: UInt8Array, labels: UInt8Array, about: Mapping[str, Any]) -> pa.Table:
    """Make the table that is written as a split; the arrays are not copied.

    Args:
        images: Pixels in [0, 255], shape (N, ...) with 784 of them in each row, contiguous.
        labels: Classes, shape (N,), contiguous.
        about: What the file says of itself, JSON-ready.
    """
    columns = (
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(PIXELS), len(images), [None, pa.py_buffer(images)]),
        pa.UInt8Array.from_buffers(pa.uint8(), len(labels), [None, pa.py_buffer(labels)]),
    )
    metadata = {"mnist_bp": json.dumps({**about, "image_shape": [28, 28]})}
    return pa.Table.from_arrays(columns, schema=_SCHEMA.with_metadata(metadata))


def load_split(file: FileDigest) -> tuple[UInt8Array, UInt8Array]:
    """Read one split into memory.

    Returns:
        Images, pixels in [0, 255], shape (N, 784), uint8; and labels, shape (N,), uint8.

    Raises:
        ChecksumError: The file differs from its digest; nothing was parsed.
        DataFormatError: It is not a split of this cache.
        StoreError: It is absent or unreadable.
    """
    content = read_verified(Path(file.path), file.sha256)
    try:
        return decode_split(content)
    except (pa.ArrowException, OSError, ValueError) as exc:  # Arrow says OSError of what cannot be decoded, too
        raise DataFormatError(f"{file.path} is not a split of this cache: {exc}; delete it and run again") from exc


def decode_split(content: bytes) -> tuple[UInt8Array, UInt8Array]:
    """Decompress a split whose bytes are proved: several row groups at once, each into its place in the whole.

    Neither `pq.read_table` nor `to_numpy` is used: both import pandas where it is installed (0.3 s, ten times what the
    reading takes), and a table of all rows would stand in memory beside the arrays.

    Args:
        content: A Parquet file.

    Returns:
        See `load_split`.

    Raises:
        pyarrow.ArrowException, OSError: It is not Parquet.
        ValueError: It has other columns.
    """
    metadata = pq.read_metadata(pa.BufferReader(content))
    found = metadata.schema.to_arrow_schema()
    if not found.equals(_SCHEMA):  # what stands in the metadata is not compared
        raise ValueError(f"its columns are {_in_words(found)}, expected {_in_words(_SCHEMA)}")
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    images, labels = np.empty((sum(sizes), PIXELS), np.uint8), np.empty(sum(sizes), np.uint8)

    def read_group(group: int) -> None:
        start = sum(sizes[:group])
        rows = pq.ParquetFile(pa.BufferReader(content), metadata=metadata).read_row_group(group, use_threads=False)
        for batch in rows.to_batches():
            place = slice(start, start + len(batch))
            images[place], labels[place] = _values(batch.column("pixels"), PIXELS), _values(batch.column("label"))
            start += len(batch)

    with ThreadPoolExecutor(min(MAX_READERS, pa.cpu_count())) as readers:
        for _ in readers.map(read_group, range(len(sizes))):
            pass  # raises what a reader raised
    return images, labels


def _values(column: pa.Array, *shape: int) -> UInt8Array:
    """View a column of bytes, without copying it: shape (N, *shape)."""
    width = math.prod(shape)
    values = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return values.reshape(-1, *shape)


def _in_words(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"
