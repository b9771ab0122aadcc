"""The preparation of a drawing is that of MNIST's digits, and the one that the module describes."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_bp.data.digits import is_prepared, prepare_digit
from mnist_bp.data.parquet import load_split
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.dataset import CachedDataset


def prepared_by_hand(ink: list[list[int]]) -> list[list[int]]:
    """The four steps as the module states them, in plain integers and loops, as JavaScript has them."""
    rows = [r for r, row in enumerate(ink) if max(row) >= 64]
    columns = [c for c in range(len(ink[0])) if max(row[c] for row in ink) >= 64]
    box = [row[columns[0] : columns[-1] + 1] for row in ink[rows[0] : rows[-1] + 1]]
    h, w, longer = len(box), len(box[0]), max(len(box), len(box[0]))
    n_h, n_w = (max(1, (40 * side + longer) // (2 * longer)) for side in (h, w))

    def overlaps(new: int, n: int, side: int) -> list[tuple[int, int]]:
        lengths = [(old, min((old + 1) * n, (new + 1) * side) - max(old * n, new * side)) for old in range(side)]
        return [(old, length) for old, length in lengths if length > 0]

    scaled = [[0] * n_w for _ in range(n_h)]
    for i in range(n_h):
        for j in range(n_w):
            covered = [(R * C, box[r][c]) for r, R in overlaps(i, n_h, h) for c, C in overlaps(j, n_w, w)]
            scaled[i][j] = (2 * sum(area * v for area, v in covered) + h * w) // (2 * h * w)
    largest = max(map(max, scaled))
    scaled = [[(510 * v + largest) // (2 * largest) for v in row] for row in scaled]
    mass = sum(map(sum, scaled))
    y = sum((2 * i + 1) * v for i, row in enumerate(scaled) for v in row)
    x = sum((2 * j + 1) * v for row in scaled for j, v in enumerate(row))
    top, left = (min(max(14 - m // (2 * mass), 0), 28 - n) for m, n in ((y, n_h), (x, n_w)))
    image = [[0] * 28 for _ in range(28)]
    for i, row in enumerate(scaled):
        image[top + i][left : left + n_w] = row
    return image


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (9, 4), (20, 20), (28, 28), (37, 53), (61, 3), (2, 50)],
    ids=lambda shape: f"{shape[0]}x{shape[1]}",
)
def test_the_preparation_is_the_arithmetic_that_the_module_states(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(sum(shape))
    for _ in range(5):
        ink = draw.choice(np.array([0, 0, 0, 0, 63, 64, 120, 255], np.uint8), shape)
        ink[shape[0] // 2, shape[1] // 2] = 200
        assert prepare_digit(ink).tolist() == prepared_by_hand(ink.tolist())


def test_the_longer_side_of_a_digit_becomes_20_pixels_and_its_centre_of_mass_lies_in_row_and_column_14() -> None:
    ink = np.zeros((300, 400), np.uint8)
    ink[40:240, 310:330] = 255  # a one, 200 high and 20 wide, at the right
    image = prepare_digit(ink)
    expected = np.zeros((28, 28), np.uint8)
    expected[4:24, 13:15] = 255  # 20 high, 2 wide; its centre is the upper left corner of pixel (14, 14)
    assert image.tolist() == expected.tolist()


def test_faint_ink_outside_the_digit_does_not_change_its_size() -> None:
    ink = np.zeros((60, 60), np.uint8)
    ink[20:40, 20:40] = 255
    fringed = ink.copy()
    fringed[10, :] = 63
    assert prepare_digit(fringed).tolist() == prepare_digit(ink).tolist()


def test_the_darkest_pixel_of_a_thin_drawing_is_255() -> None:
    ink = np.zeros((280, 280), np.uint8)
    ink[40:240, 140] = 255
    ink[40, 100:180] = 255
    assert prepare_digit(ink).max() == 255


def test_a_lopsided_digit_is_moved_but_never_cut_off() -> None:
    ink = np.zeros((40, 40), np.uint8)
    ink[0:4, :] = 255
    ink[:, 0] = 70
    image = prepare_digit(ink)
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert (len(rows), len(columns)) == (20, 20)
    assert rows[-1] == 27


@pytest.fixture(scope="module")
def digits(sample: CachedDataset) -> UInt8Array:
    images, _ = load_split(sample.test)
    return images.reshape(-1, 28, 28)


def test_images_of_mnist_need_no_preparation(digits: UInt8Array) -> None:
    assert all(map(is_prepared, digits))


def test_the_preparation_leaves_images_of_mnist_as_they_are(digits: UInt8Array) -> None:
    """Of those with a sharp edge and full contrast, all but those that MNIST's own arithmetic rounded another way."""
    sharp = [
        image
        for image in digits
        if image.max() == 255
        and (image.any(1) == (image >= 64).any(1)).all()
        and (image.any(0) == (image >= 64).any(0)).all()
    ]
    same = sum(np.array_equal(prepare_digit(image), image) for image in sharp)
    assert len(sharp) > 400
    assert same >= len(sharp) - 2


@pytest.mark.parametrize("change", ["moved", "smaller", "a little smaller", "empty", "another size"])
def test_other_drawings_of_28_by_28_pixels_need_preparation(digits: UInt8Array, change: str) -> None:
    (image, *_) = digits
    changed = {
        "moved": np.roll(image, 3, axis=1),
        "smaller": np.pad(np.full((10, 10), 255, np.uint8), 9),
        "a little smaller": np.pad(np.full((18, 18), 255, np.uint8), 5),
        "empty": np.zeros_like(image),
        "another size": np.pad(image, 1),
    }
    assert not is_prepared(changed[change])
