"""Ways to lay out a split as Parquet, each different from ours (`mnist_bp.data.parquet`) in one decision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_bp.data.parquet import LAYOUT, decode_split, split_table
from mnist_bp.model.parameters import PIXELS, UInt8Array

Pixels = Literal["fixed-size binary", "binary", "fixed-size list", "list", "784 columns"]


@dataclass(frozen=True)
class Layout:
    """How a split is written.

    Args:
        name: What differs from ours, in words.
        pixels: The type of the pixels.
        options: For `pq.write_table`.
    """

    name: str
    pixels: Pixels
    options: dict[str, Any]


def _layout(name: str, pixels: Pixels = "fixed-size binary", **changed: Any) -> Layout:
    return Layout(name, pixels, {**LAYOUT, **changed})


LAYOUTS: Final = (
    _layout("ours"),
    *(_layout(f"pixels: {kind}", kind) for kind in ("binary", "fixed-size list", "list", "784 columns")),
    _layout("dictionary", use_dictionary=True),
    *(_layout(f"compression {name}", compression=name, compression_level=None) for name in ("none", "snappy", "lz4")),
    *(_layout(f"compression zstd {level}", compression_level=level) for level in (1, 3, 6, 9, 12)),
    *(_layout(f"row groups of {size:,}", row_group_size=size) for size in (1_000, 3_000, 6_000, 10_000, 15_000)),
    _layout("one row group", row_group_size=60_000),
)
"""Ours first. Those that repeat one of our own decisions show what the measurement cannot tell apart."""


def write_layout(layout: Layout, images: UInt8Array, labels: UInt8Array, path: Path) -> None:
    """Write a split.

    Args:
        layout: How.
        images: Pixels, shape (N, 784).
        labels: Shape (N,).
        path: Where.
    """
    pq.write_table(_table(layout.pixels, images, labels), path, **layout.options)


def _table(pixels: Pixels, images: UInt8Array, labels: UInt8Array) -> pa.Table:
    if pixels == "fixed-size binary":
        return split_table(images, labels, {})
    if pixels == "784 columns":
        return pa.table({**{f"pixel{i}": images[:, i].copy() for i in range(images.shape[1])}, "label": labels})
    offsets = pa.array(np.arange(0, images.size + 1, PIXELS, dtype=np.int32))
    values = pa.array(images.ravel())
    if pixels == "binary":
        buffers = [None, offsets.buffers()[1], pa.py_buffer(images)]
        column = pa.BinaryArray.from_buffers(pa.binary(), len(images), buffers)
    elif pixels == "fixed-size list":
        column = pa.FixedSizeListArray.from_arrays(values, PIXELS)
    else:
        column = pa.ListArray.from_arrays(offsets, values)
    return pa.table({"pixels": column, "label": labels})


def read_layout(pixels: Pixels, content: bytes) -> tuple[UInt8Array, UInt8Array]:
    """Read a split: ours with our reader, others with Arrow's, which decompresses row groups at once too.

    Returns:
        Images, shape (N, 784), and labels, shape (N,).
    """
    if pixels == "fixed-size binary":
        return decode_split(content)
    table = pq.read_table(pa.BufferReader(content))
    labels = table.column("label").to_numpy()
    images = np.empty((len(table), PIXELS), np.uint8)
    if pixels == "784 columns":
        for i in range(PIXELS):
            images[:, i] = table.column(i).to_numpy()
        return images, labels
    start = 0
    for chunk in table.column("pixels").chunks:
        if pixels == "binary":
            first = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset]
            values = np.frombuffer(chunk.buffers()[2], np.uint8)[first:]
        else:
            values = chunk.flatten().to_numpy()
        images[start : start + len(chunk)] = values[: len(chunk) * PIXELS].reshape(-1, PIXELS)
        start += len(chunk)
    return images, labels
