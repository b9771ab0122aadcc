"""Shifted images: in each epoch, each training image is moved at random by a few pixels, as if written elsewhere.

A shift never moves a pixel out of the image. It is drawn uniformly and then cut to the image's margins: an image whose
digit touches an edge is not moved further that way. So a moved image has the same nonzero pixels, and is described by
one number: how far they move along the row of all pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mnist_bp.engines.interface import MAX_OFFSET
from mnist_bp.errors import ConfigError
from mnist_bp.model import rng
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.dataset import DatasetShape


def check_shift(shape: DatasetShape, reach: int) -> None:
    """Check that images can be moved, before they are read.

    Args:
        shape: Of the images.
        reach: Largest shift along an axis, in pixels; 0 if they are not moved.

    Raises:
        ConfigError: They are too small or too wide; states the figures.
    """
    smaller = min(shape.height, shape.width)
    if reach and smaller <= 2 * reach:
        raise ConfigError(
            f"shift {reach}: expected at most {(smaller - 1) // 2} for images of {shape.width} x {shape.height} pixels"
        )
    _check_width(shape.width, reach)


def _check_width(width: int, reach: int) -> None:
    if reach * (width + 1) > MAX_OFFSET:
        raise ConfigError(f"shift {reach}: expected at most {MAX_OFFSET // (width + 1)} for images {width} pixels wide")


class Shifts:
    """The shifts of a dataset's images.

    Args:
        images: Shape (N, D).
        width: Pixels in a row of an image; divides D.
        reach: Largest shift along an axis, in pixels.

    Raises:
        ConfigError: The images have no such width, or are too wide for the shift.
    """

    def __init__(self, images: UInt8Array, width: int, reach: int) -> None:
        if width < 1 or images.shape[1] % width:
            raise ConfigError(
                f"shift {reach}: expected images of a known width, and {images.shape[1]} pixels are not whole rows of "
                f"{width}; use shift 0"
            )
        _check_width(width, reach)
        self._reach, self._width = reach, width
        filled = images.reshape(len(images), -1, width) != 0
        across, down = filled.any(1), filled.any(2)  # whether a column or a row has a nonzero pixel
        self._top_left = np.stack([down.argmax(1), across.argmax(1)]).astype(np.int16)  # margins, shape (2, N)
        self._bottom_right = np.stack([down[:, ::-1].argmax(1), across[:, ::-1].argmax(1)]).astype(np.int16)

    def offsets(self, seed: int, epoch: int, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Return how far the pixels of each image move in an epoch.

        Args:
            seed: Seed of the model.
            epoch: Index of the epoch, from 0.
            rows: Row numbers of the images in the order of the epoch, shape (N,).

        Returns:
            Distances along the row of all pixels, shape (N,): the width for a shift down by one pixel.
        """
        drawn = rng.shifts(seed, epoch, len(rows), self._reach)
        down, right = np.clip(drawn, -self._top_left[:, rows], self._bottom_right[:, rows])
        offsets: npt.NDArray[np.int32] = (self._width * down + right).astype(np.int32)
        return offsets
