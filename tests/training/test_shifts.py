"""Shifted images: what a shift is, which are drawn, and that no pixel leaves the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_bp.errors import ConfigError
from mnist_bp.model import rng
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.model.recipe import Recipe
from mnist_bp.training.loop import ExampleOrder
from mnist_bp.training.shifts import Shifts


def images_of(count: int, height: int, width: int, seed: int = 0) -> UInt8Array:
    draw = np.random.RandomState(seed)
    images = draw.randint(1, 256, size=(count, height, width)) * (draw.random_sample((count, height, width)) < 0.05)
    images[0] = 0
    return images.reshape(count, -1).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 50),
    height=st.integers(4, 30),
    width=st.integers(4, 30),
    reach=st.integers(1, 3),
)
def test_an_offset_along_the_row_of_all_pixels_moves_the_image_in_two_dimensions_and_keeps_every_pixel(
    seed: int, epoch: int, height: int, width: int, reach: int
) -> None:
    images, rows = images_of(20, height, width, seed), np.random.RandomState(seed).permutation(20)
    drawn = rng.shifts(seed, epoch, 20, reach)
    for place, (row, offset) in enumerate(
        zip(rows, Shifts(images, width, reach).offsets(seed, epoch, rows), strict=True)
    ):
        ys, xs = images[row].reshape(height, width).nonzero()
        if not len(ys):
            assert offset == 0
            continue
        down = np.clip(drawn[0, place], -ys.min(), height - 1 - ys.max())
        right = np.clip(drawn[1, place], -xs.min(), width - 1 - xs.max())
        by_hand = np.zeros((height, width), np.uint8)
        by_hand[ys + down, xs + right] = images[row].reshape(height, width)[ys, xs]
        assert np.array_equal(np.roll(images[row], offset), by_hand.reshape(-1))


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_every_shift_is_drawn_equally_often(reach: int) -> None:
    """Chi-squared of 60,000 shifts over all cells: with 48 degrees of freedom, 1 draw in 1,000 exceeds 85."""
    down, right = rng.shifts(7, 0, 60_000, reach)
    side = 2 * reach + 1
    counts = np.bincount((down + reach) * side + right + reach, minlength=side**2)
    assert len(counts) == side**2
    expected = 60_000 / side**2
    assert ((counts - expected) ** 2 / expected).sum() < 85


def test_shifts_depend_on_seed_epoch_and_place_alone() -> None:
    first = rng.shifts(1, 0, 1_000, 2)
    assert np.array_equal(first[:, :10], rng.shifts(1, 0, 10, 2))
    for other in (rng.shifts(2, 0, 1_000, 2), rng.shifts(1, 1, 1_000, 2)):
        assert (first != other).any(0).mean() > 0.9
    # nor are they the bits that order the examples
    assert abs(np.corrcoef(first[0], rng.permutation(1, 0, 1_000))[0, 1]) < 0.15


def test_the_examples_of_a_range_are_moved_in_the_same_way_wherever_it_is_cut() -> None:
    images = images_of(30, 8, 8)
    recipe = Recipe(shift=2, schedule="linear", steps=20)

    def order() -> ExampleOrder:
        return ExampleOrder(3, 30, 4, recipe, Shifts(images, 8, 2))

    whole, pieces = order().batches(0, 20), order()
    halves = [pieces.batches(0, 9), pieces.batches(9, 20)]
    for together, *apart in zip(whole, *halves, strict=True):
        assert np.array_equal(np.concatenate(apart), together)
    assert len(set(whole.offsets.flatten().tolist())) > 10
    assert np.array_equal(order().batches(13, 14).offsets, whole.offsets[13:14])


def test_without_shifts_nothing_is_moved() -> None:
    assert not ExampleOrder(3, 30, 4, Recipe()).batches(0, 20).offsets.any()


def test_a_linear_schedule_falls_from_the_rate_to_a_last_step_above_zero() -> None:
    rates = Recipe(learning_rate=0.5, schedule="linear", steps=5).rates(0, 5)
    assert rates.tolist() == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])
    assert Recipe(learning_rate=0.5).rates(3, 6).tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("shape", "width", "reach", "expected"),
    [
        ((2, 50), 28, 1, "shift 1: expected images of a known width, and 50 pixels are not whole rows of 28"),
        ((2, 50), 0, 1, "shift 1: expected images of a known width, and 50 pixels are not whole rows of 0"),
        ((2, 400), 100, 3, "shift 3: expected at most 2 for images 100 pixels wide"),
    ],
    ids=str,
)
def test_images_that_cannot_be_moved_are_refused(shape: tuple[int, int], width: int, reach: int, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        Shifts(np.ones(shape, np.uint8), width, reach)
