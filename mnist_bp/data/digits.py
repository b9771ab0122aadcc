"""The preparation of a drawing as MNIST's digits were prepared: a box of 20 x 20, centred by mass in 28 x 28.

A drawing is an array of ink, shape (h, w), with values from 0 (paper) to 255. All arithmetic is on integers, and `//`
rounds down, so that another program, such as the JavaScript of a report, computes the same bytes:

1. Box. Keep the rows and the columns from the first to the last that has a value of at least 64. Fainter ink, such as
   the fringe that a resampling filter adds, does not enlarge the box; inside the box it stays.
2. Scale. For a box of h x w, with L = max(h, w), a side s becomes n(s) = max(1, (40 s + L) // (2 L)) pixels: 20 for the
   longer side, and 20 s / L rounded, halves up, for the shorter one. A new pixel is the mean of the area that it covers
   (a box filter), at any scale. In units of 1 / n(h) of an old row, old row r extends from r n(h) to (r + 1) n(h), and
   new row i from i h to (i + 1) h; let R(i, r) be the length of their overlap, and C(j, c) that of columns. New pixel
   (i, j) has the sum S = sum over r and c of R(i, r) C(j, c) ink(r, c), of which the weights add up to h w. Its value
   is (2 S + h w) // (2 h w), the mean rounded, halves up.
3. Contrast. With p the largest value in the scaled box, a value v becomes (510 v + p) // (2 p): v 255 / p rounded,
   halves up. So thin strokes, which the mean makes faint, become visible.
4. Centre. With M the sum of all values, and Y the sum of (2 i + 1) times the values in row i (from 0), the centre of
   mass lies in row Y // (2 M) of the scaled box. That row is moved to row 14 (from 0) of 28: the box starts at row
   14 - Y // (2 M), but not before 0 and not after 28 - n(h), so that nothing is cut off. Columns likewise.

No number exceeds 2^53 if the box has at most 4 million pixels, so doubles hold all of them exactly, and
`Math.floor(a / b)` is `a // b`.

Source: http://yann.lecun.com/exdb/mnist/, "size normalized to fit in a 20x20 pixel box while preserving their aspect
ratio ... centered in a 28x28 image by computing the center of mass of the pixels". That the centre of mass lies in row
and column 14 is measured: steps 2 and 4 leave 69,983 of MNIST's 70,000 images as they are, given the box of all ink.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from mnist_bp.model.parameters import WIDTH, IntArray, UInt8Array

DATASETS: Final = frozenset({"mnist", "mnist-sample"})
"""Datasets whose images were prepared like this."""

BOX: Final = 20
"""Longer side of a digit, in pixels."""

CENTRE: Final = WIDTH // 2
"""Row, and column, of the pixel that contains the centre of mass."""

FAINTEST: Final = 64
"""Smallest value that enlarges the box."""

MAX_SIDE: Final = 2_000
"""Longest side of a drawing whose preparation is exact in doubles."""


def prepare_digit(ink: UInt8Array) -> UInt8Array:
    """Scale and centre a drawing as described above.

    Args:
        ink: Values from 0 (paper) to 255, shape (h, w) with sides of at most `MAX_SIDE`; at least one value is
            `FAINTEST` or more.

    Returns:
        Pixels in [0, 255], shape (28, 28).
    """
    box = _scale(_box(ink, FAINTEST))
    box = (510 * box + box.max()) // (2 * box.max())
    top, left = _start(box.sum(1)), _start(box.sum(0))
    image = np.zeros((WIDTH, WIDTH), np.uint8)
    image[top : top + box.shape[0], left : left + box.shape[1]] = box
    return image


def is_prepared(ink: UInt8Array) -> bool:
    """Return whether an image has the size and the position of MNIST's, and needs no preparation.

    That is so if it has 28 x 28 pixels, the longer side of the box of all its ink is 20 or 19 pixels, and its centre of
    mass is 14 to 15 pixels from the top and from the left. So it is in all but 2 of MNIST's 70,000 images.

    Args:
        ink: As in `prepare_digit`.
    """
    if ink.shape != (WIDTH, WIDTH) or not ink.any():
        return False
    doubled, mass = 2 * np.arange(WIDTH) + 1, int(ink.sum())
    centres = [int(doubled @ ink.sum(axis)) / (2 * mass) for axis in (0, 1)]
    return max(_box(ink, 1).shape) in (BOX - 1, BOX) and all(CENTRE <= centre <= CENTRE + 1 for centre in centres)


def _box(ink: UInt8Array, faintest: int) -> UInt8Array:
    """Return the rows and columns from the first to the last that has a value of at least `faintest`; step 1."""
    rows, columns = np.nonzero(ink >= faintest)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _scale(box: UInt8Array) -> IntArray:
    """Return the box with a longer side of `BOX`; step 2."""
    (h, w), longer = box.shape, max(box.shape)
    R, C = (_overlaps(side, max(1, (2 * BOX * side + longer) // (2 * longer))) for side in (h, w))
    S: IntArray = (R @ box @ C.T).astype(np.int64)  # exact: every partial sum is an integer below 2^53
    rounded: IntArray = (2 * S + h * w) // (2 * h * w)
    return rounded


def _overlaps(old: int, new: int) -> npt.NDArray[np.float64]:
    """Return R of step 2, shape (new, old), for a side of `old` pixels that becomes `new` pixels."""
    r, i = np.arange(old), np.arange(new)[:, np.newaxis]
    lengths: IntArray = np.minimum((r + 1) * new, (i + 1) * old) - np.maximum(r * new, i * old)
    return lengths.clip(min=0).astype(np.float64)


def _start(sums: IntArray) -> int:
    """Return the first row of the box in the image, from the sums of the box's rows; step 4."""
    Y = (2 * np.arange(len(sums)) + 1) @ sums
    return int(np.clip(CENTRE - Y // (2 * sums.sum()), 0, WIDTH - len(sums)))
