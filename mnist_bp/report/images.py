"""Small pictures as data addresses: PNG made with zlib alone, since importing a plotting library takes a second.

Equal arrays give equal bytes.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

import numpy as np

from mnist_bp.model.parameters import FloatArray, UInt8Array

LEVELS: Final = 31
"""Shades of either sign in a picture of weights; more would be larger and look the same."""

POSITIVE: Final = (37, 99, 235)
NEGATIVE: Final = (217, 95, 14)
"""Blue and orange, which colour-blind readers tell apart, and which stand out from white and from black."""

_GREY, _PALETTE = 0, 3
"""Colour types; Source: PNG specification, 11.2.2."""


def digit_picture(pixels: UInt8Array) -> str:
    """Show an image as it is: ink white, paper black.

    Args:
        pixels: In [0, 255], shape (height, width).

    Returns:
        A `data:` address.
    """
    return _address(_png(pixels, _GREY))


def weights_picture(weights: FloatArray, full: float) -> str:
    """Show weights as ink on whatever is below: blue for positive, orange for negative, nothing for zero.

    Args:
        weights: Shape (height, width).
        full: The magnitude from which on the colour is full, above 0.

    Returns:
        A `data:` address.
    """
    shades = np.rint(np.clip(weights / full, -1, 1) * LEVELS).astype(np.int64) + LEVELS  # in [0, 2 * LEVELS]
    colours = bytes(NEGATIVE) * LEVELS + bytes(POSITIVE) * (LEVELS + 1)
    opacity = bytes(round(255 * abs(shade) / LEVELS) for shade in range(-LEVELS, LEVELS + 1))
    return _address(_png(shades.astype(np.uint8), _PALETTE, (b"PLTE", colours), (b"tRNS", opacity)))


def _png(values: UInt8Array, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    rows = np.pad(values, ((0, 0), (1, 0))).tobytes()  # each begins with its filter: none
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
