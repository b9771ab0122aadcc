"""Small PNG images as `data:` URLs, encoded with zlib alone: importing a plotting library takes a second.

Equal arrays give equal bytes.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

import numpy as np

from mnist_bp.model.parameters import FloatArray, UInt8Array
from mnist_bp.report.style import NEGATIVE, POSITIVE

LEVELS: Final = 31
"""Shades of each sign in an image of weights; more would make it larger without a visible difference."""

_GREY, _PALETTE = 0, 3
"""Colour types; Source: PNG specification, 11.2.2."""


MAX_PIXELS: Final = 1_500_000
"""Pixels of all images of one kind on a page."""


def count_that_fits(images: int, pixels: int) -> int:
    """Return how many images a page shows: fewer of large ones, but at least one.

    Args:
        images: Their largest number.
        pixels: Of one image.
    """
    return max(1, min(images, MAX_PIXELS // pixels))


def digit_data_url(pixels: UInt8Array) -> str:
    """Encode a dataset image unchanged, white ink on black.

    Args:
        pixels: In [0, 255], shape (height, width).

    Returns:
        A `data:` URL.
    """
    return _data_url(_png(pixels, _GREY))


def weights_data_url(weights: FloatArray, full_scale: float) -> str:
    """Encode weights as coloured ink on a transparent background: blue for positive, orange for negative.

    Args:
        weights: Shape (height, width).
        full_scale: The magnitude at and above which the colour is opaque, above 0.

    Returns:
        A `data:` URL.
    """
    shades = np.rint(np.clip(weights / full_scale, -1, 1) * LEVELS).astype(np.int64) + LEVELS  # in [0, 2 * LEVELS]
    colours = bytes(NEGATIVE) * LEVELS + bytes(POSITIVE) * (LEVELS + 1)
    opacity = bytes(round(255 * abs(shade) / LEVELS) for shade in range(-LEVELS, LEVELS + 1))
    return _data_url(_png(shades.astype(np.uint8), _PALETTE, (b"PLTE", colours), (b"tRNS", opacity)))


def _png(values: UInt8Array, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    rows = np.pad(values, ((0, 0), (1, 0))).tobytes()  # each row begins with its filter type: 0, none
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
