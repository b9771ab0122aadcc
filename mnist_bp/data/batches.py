"""Batches of images: IDX files, as MNIST is published, and NumPy's .npy files. Neither can run code."""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO
from typing import Final

import numpy as np

from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import UInt8Array

MAX_SIZE: Final = 1 << 28
"""Bytes of the largest batch, unzipped: 340,000 images of 28 x 28."""

_GZIP: Final = b"\x1f\x8b"
_NPY: Final = b"\x93NUMPY"
_IDX: Final = b"\0\0"
_UBYTE: Final = 0x08
_HINT: Final = "expected uint8 images of shape (N, height, width) or (N, pixels)"


def decode_batch(content: bytes, name: str) -> UInt8Array | None:
    """Decode a batch, gzipped or not.

    Args:
        content: Contents of a file.
        name: Its name, for messages.

    Returns:
        The images in the shape that the file states, (N, h, w) or (N, D); None if it is no batch.

    Raises:
        DataFormatError: It is a batch that is damaged, or of another type or shape.
    """
    if content.startswith(_GZIP):
        content = _unzip(content, name)
        if not content.startswith((_NPY, _IDX)):
            raise DataFormatError(f"{name} is gzipped and contains neither an IDX nor a .npy file; {_HINT}")
    if content.startswith(_NPY):
        return _decode_npy(content, name)
    return _decode_idx(content, name) if content.startswith(_IDX) else None


def _unzip(content: bytes, name: str) -> bytes:
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unzipped = unzip.decompress(content, MAX_SIZE)
    except zlib.error as exc:
        raise DataFormatError(f"{name} is a damaged gzip file: {exc}; make it again") from exc
    if not unzip.eof:
        raise DataFormatError(f"{name} is cut off, or has more than {MAX_SIZE:,} bytes unzipped; make it again")
    return unzipped


def _decode_npy(content: bytes, name: str) -> UInt8Array:
    file = BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
    except Exception as exc:  # NumPy raises errors of many types for damaged headers
        raise DataFormatError(f"{name} is a damaged .npy file: {exc}; {_HINT}") from exc
    if dtype != np.uint8:
        raise DataFormatError(f"{name} has {dtype} values, {_HINT}: values from 0 (background) to 255")
    return _shaped(file.read(), shape, name, by_columns=by_columns)


def _decode_idx(content: bytes, name: str) -> UInt8Array:
    """Decode what `mnist_bp.data.sample.encode_idx` encodes; its source describes the format."""
    if len(content) < 4 or content[2] != _UBYTE or len(content) < 4 + 4 * content[3]:
        raise DataFormatError(f"{name} is not an IDX file of bytes; {_HINT}")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    return _shaped(content[4 + 4 * len(shape) :], shape, name)


def _shaped(values: bytes, shape: tuple[int, ...], name: str, *, by_columns: bool = False) -> UInt8Array:
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise DataFormatError(f"{name} has the shape {shape}, {_HINT}, N at least 1")
    if len(values) != math.prod(shape):
        raise DataFormatError(
            f"{name} is damaged: it has {len(values):,} values, expected {math.prod(shape):,} for the shape {shape}"
        )
    return np.frombuffer(values, np.uint8).reshape(shape, order="F" if by_columns else "C")
