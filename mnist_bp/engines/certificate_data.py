"""Synthetic images for the certificate, with what MNIST has and an engine could get wrong."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import IntArray, UInt8Array
from mnist_bp.results.dataset import DatasetShape

_DISTINCT: Final = 640
_COPIES: Final = 4
"""The 2,560 images have more than 2**16 words of nonzero pixels in the layout of the cpu engine."""

_STRIDE: Final = 13
_FAR: Final = 2**15
"""Distance between the row numbers of half of the images, and the first row number of the other half."""

_MNIST_PIXELS: Final = 784
_FEWEST_DISTINCT: Final = 8
_LARGE: Final = 4_096
"""Images of so many pixels are few enough to stay below 140 MB; of larger ones fewer are made, with smaller gaps
between their row numbers."""

_NONZERO_SHARE: Final = 0.19
"""Share of nonzero pixels, as in MNIST; also of images with margins, whose other pixels are fewer."""

_FEWEST_NONZERO: Final = 12
"""Nonzero pixels that small images have on average: one without any would be at the kink of every ReLU."""

_GAPS: Final = (248, 700)
"""Range of the number of zero pixels in a row that a quarter of the images have; 1 in 240 images of MNIST has such. In
images of fewer pixels than MNIST's, it is smaller in proportion."""


class Examples(NamedTuple):
    """A dataset of which only some images are not zero.

    Args:
        images: Shape (N, D).
        labels: Shape (N,).
        rows: Row numbers of the images that are used, in random order: first one with a gap, then an image of zeros.
        shift: Width of each image's margin of zeros.
        shape: Of the images; also K.
    """

    images: UInt8Array
    labels: UInt8Array
    rows: IntArray
    shift: int
    shape: DatasetShape

    def draw(self, seed: int, steps: int, batch_size: int, rate: float) -> Batches:
        """Draw the examples of some steps, with random shifts, and learning rates between half and twice a rate."""
        draw = np.random.RandomState(seed)
        rows = self.rows[draw.randint(len(self.rows), size=(steps, batch_size))]
        down, right = draw.randint(-self.shift, self.shift + 1, size=(2, steps, batch_size))
        rates = rate * np.exp2(draw.uniform(-1, 1, steps)).astype(np.float32).astype(np.float64)
        return Batches(rows, (self.shape.width * down + right).astype(np.int32), rates)

    def moved(self, rows: IntArray, offsets: npt.NDArray[np.int32]) -> UInt8Array:
        """Return images of shape (B, D), moved in two dimensions."""
        if not self.shift:
            return self.images[rows]
        height, width = self.shape.height, self.shape.width
        down = np.rint(offsets / width).astype(np.int64)
        right = offsets - width * down
        from_row = (np.arange(height) - down[:, np.newaxis]) % height  # (B, height)
        from_column = (np.arange(width) - right[:, np.newaxis]) % width
        grids = self.images.reshape(-1, height, width)
        found: UInt8Array = grids[
            rows[:, np.newaxis, np.newaxis], from_row[:, :, np.newaxis], from_column[:, np.newaxis]
        ]
        return found.reshape(-1, self.shape.inputs)


@lru_cache(maxsize=2)
def synthetic_digits(shift: int, shape: DatasetShape) -> Examples:
    """Generate images as sparse as digits, some with long runs of zeros.

    Args:
        shift: Pixels on each side of an image that are zero, so that it can be moved so far; fewer than half of a side.
        shape: Of the images; also K.
    """
    draw = np.random.RandomState(1)
    inputs, height, width = shape.inputs, shape.height, shape.width
    distinct = max(_FEWEST_DISTINCT, min(_DISTINCT, _DISTINCT * _LARGE // inputs))
    share = max(_NONZERO_SHARE, _FEWEST_NONZERO / inputs) * inputs / ((height - 2 * shift) * (width - 2 * shift))
    base = draw.randint(1, 256, size=(distinct, inputs)) * (draw.random_sample((distinct, inputs)) < share)
    shortest, longest = (min(gap, gap * inputs // _MNIST_PIXELS) for gap in _GAPS)
    for image in base[::4]:
        length = draw.randint(shortest, max(longest, shortest + 1))
        start = draw.randint(inputs - length + 1)
        image[start : start + length] = 0
    base[1] = 0
    copies = np.concatenate([np.roll(base, copy * inputs // _COPIES, axis=1) for copy in range(_COPIES)])
    grids = copies.reshape(-1, height, width)
    if shift:
        grids[:, :shift] = grids[:, -shift:] = grids[:, :, :shift] = grids[:, :, -shift:] = 0
    if not grids[0].any():  # in a small image, the gap may leave nothing to learn from
        grids[0, height // 2, width // 2] = 255
    numbers = np.arange(len(copies) // 2, dtype=np.int64)
    near = _STRIDE * numbers + _STRIDE - 1
    far = max(int(near[-1]) + 1, min(_FAR, _FAR * _LARGE // inputs))
    rows = np.concatenate([near, far + numbers])
    images = np.zeros((far + len(copies), inputs), np.uint8)  # rows that are never written take no memory
    images[rows] = copies
    labels = draw.randint(shape.classes, size=len(images)).astype(np.uint8)
    order = np.concatenate([rows[:2], rows[2:][draw.permutation(len(rows) - 2)]])
    return Examples(images, labels, order, shift, shape)
