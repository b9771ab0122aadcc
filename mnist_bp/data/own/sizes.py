"""The size of images that are stored as rows of pixels, and the largest size."""

from __future__ import annotations

import math

from mnist_bp.data.own.address import MAX_SIDE
from mnist_bp.errors import DataFormatError
from mnist_bp.results.dataset import OwnSource


def image_size(pixels: int, source: OwnSource) -> tuple[int, int]:
    """Return the height and width of images that are stored as rows of pixels: those that are named, or a square.

    Raises:
        DataFormatError: They are not square, and no size is named, or one of another number of pixels.
    """
    side = math.isqrt(pixels)
    width, height = source.size or (side, side)
    if width * height != pixels:
        named = f"--image-size {width}x{height} has {width * height:,}" if source.size else "they are not square"
        raise DataFormatError(
            f"{source.place} has images of {pixels:,} pixels, and {named}: give their size, --image-size WIDTHxHEIGHT"
        )
    check_sides(height, width, source.place)
    return height, width


def check_sides(height: int, width: int, place: str) -> None:
    """Refuse images that are too large to train on.

    Raises:
        DataFormatError: A side has more than `MAX_SIDE` pixels.
    """
    if max(height, width) > MAX_SIDE:
        raise DataFormatError(
            f"{place} has images of {width:,} x {height:,} pixels, expected sides of at most {MAX_SIDE:,}: scale "
            "them down"
        )
