"""Synthetic images for the certificate, with what MNIST has and an engine could get wrong."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import CLASSES, PIXELS, WIDTH, IntArray, UInt8Array

_DISTINCT: Final = 640
_COPIES: Final = 4
"""The 2,560 images have more than 2**16 words of nonzero pixels in the layout of the cpu engine."""

_STRIDE: Final = 13
_FAR: Final = 2**15
"""Distance between the row numbers of half of the images, and the first row number of the other half."""

_NONZERO_SHARE: Final = 0.19
"""Share of nonzero pixels, as in MNIST; also of images with margins, whose other pixels are fewer."""

_GAPS: Final = (248, 700)
"""Range of the number of zero pixels in a row that a quarter of the images have; 1 in 240 images of MNIST has such."""


class Examples(NamedTuple):
    """A dataset of which only some images are not zero.

    Args:
        images: Shape (N, D).
        labels: Shape (N,).
        rows: Row numbers of the images that are used, in random order: first one with a gap, then an image of zeros.
        shift: Width of each image's margin of zeros.
    """

    images: UInt8Array
    labels: UInt8Array
    rows: IntArray
    shift: int

    def draw(self, seed: int, steps: int, batch_size: int, rate: float) -> Batches:
        """Draw the examples of some steps, with random shifts, and learning rates between half and twice a rate."""
        draw = np.random.RandomState(seed)
        rows = self.rows[draw.randint(len(self.rows), size=(steps, batch_size))]
        down, right = draw.randint(-self.shift, self.shift + 1, size=(2, steps, batch_size))
        rates = rate * np.exp2(draw.uniform(-1, 1, steps)).astype(np.float32).astype(np.float64)
        return Batches(rows, (WIDTH * down + right).astype(np.int32), rates)

    def moved(self, rows: IntArray, offsets: npt.NDArray[np.int32]) -> UInt8Array:
        """Return images of shape (B, D), moved in two dimensions."""
        if not self.shift:
            return self.images[rows]
        down = np.rint(offsets / WIDTH).astype(np.int64)
        right = offsets - WIDTH * down
        places = np.arange(WIDTH)
        from_row = (places - down[:, np.newaxis]) % WIDTH  # (B, WIDTH)
        from_column = (places - right[:, np.newaxis]) % WIDTH
        grids = self.images.reshape(-1, WIDTH, WIDTH)
        found: UInt8Array = grids[
            rows[:, np.newaxis, np.newaxis], from_row[:, :, np.newaxis], from_column[:, np.newaxis]
        ]
        return found.reshape(-1, PIXELS)


@lru_cache(maxsize=2)
def synthetic_digits(shift: int) -> Examples:
    """Generate images as sparse as digits, some with long runs of zeros.

    Args:
        shift: Pixels on each side of an image that are zero, so that it can be moved so far.
    """
    draw = np.random.RandomState(1)
    share = _NONZERO_SHARE * PIXELS / (WIDTH - 2 * shift) ** 2
    base = draw.randint(1, 256, size=(_DISTINCT, PIXELS)) * (draw.random_sample((_DISTINCT, PIXELS)) < share)
    for image in base[::4]:
        length = draw.randint(*_GAPS)
        start = draw.randint(PIXELS - length + 1)
        image[start : start + length] = 0
    base[1] = 0
    copies = np.concatenate([np.roll(base, copy * PIXELS // _COPIES, axis=1) for copy in range(_COPIES)])
    if shift:
        grids = copies.reshape(-1, WIDTH, WIDTH)
        grids[:, :shift] = grids[:, -shift:] = grids[:, :, :shift] = grids[:, :, -shift:] = 0
    numbers = np.arange(len(copies) // 2, dtype=np.int64)
    rows = np.concatenate([_STRIDE * numbers + _STRIDE - 1, _FAR + numbers])
    images = np.zeros((_FAR + len(copies), PIXELS), np.uint8)  # rows that are never written take no memory
    images[rows] = copies
    labels = draw.randint(CLASSES, size=len(images)).astype(np.uint8)
    return Examples(images, labels, np.concatenate([rows[:2], rows[2:][draw.permutation(len(rows) - 2)]]), shift)
