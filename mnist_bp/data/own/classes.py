"""The classes of the user's own images, and the choice of test images where none are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mnist_bp.errors import UNPRINTABLE, DataFormatError, counted
from mnist_bp.model.parameters import IntArray, UInt8Array
from mnist_bp.model.rng import permutation
from mnist_bp.results.dataset import MAX_CLASSES, DatasetShape, SplitRule
from mnist_bp.storage.memory import available_memory

MAX_NAME: Final = 100
"""Characters of the name of a class."""

SPLIT_RULE: Final = SplitRule(one_in=7, seed=1)
"""Test images where none are given: of 70,000 images 10,000, as in MNIST."""


@dataclass(frozen=True)
class Examples:
    """Images with their labels, as they were found.

    Args:
        images: Pixels in [0, 255], shape (N, height, width).
        labels: Index into the classes, shape (N,).
    """

    images: UInt8Array
    labels: UInt8Array


@dataclass(frozen=True)
class OwnData:
    """The user's own images, ready for the cache.

    Args:
        train, test: The two splits.
        shape: Size of the images, and the classes.
        skipped: Number of pictures that could not be read and were left out.
        rule: How the test images were chosen; None if they were given.
    """

    train: Examples
    test: Examples
    shape: DatasetShape
    skipped: int = 0
    rule: SplitRule | None = None


def number_classes(labels: IntArray, place: str) -> tuple[str, ...]:
    """Return the names of classes that are numbered from 0 or 1 on: the numbers.

    Args:
        labels: Of the training images, at least one.
        place: Where they were found, for messages.

    Raises:
        DataFormatError: A number is negative or missing.
    """
    found = [int(label) for label in np.unique(labels)]
    if found[0] < 0:
        raise DataFormatError(f"{place} has the label {found[0]}, expected 0 or more")
    if found[0] > 1 or found != list(range(found[0], found[0] + len(found))):
        present, expected = set(found), range(min(found[0], 1), found[-1])
        missing = next(number for number in expected if number not in present)
        raise DataFormatError(
            f"{place} has labels up to {found[-1]:,}, and none of {missing}: expected images of every label, from 0 or "
            "1 on; number the labels without gaps, or give them as text in Parquet"
        )
    return tuple(map(str, found))


def name_classes(names: Sequence[str], place: str) -> tuple[str, ...]:
    """Sort the names of classes: by their values if all are whole numbers, else as text.

    Raises:
        DataFormatError: A name is empty, long, or has control characters.
    """
    for name in names:
        if not name.strip() or len(name) > MAX_NAME or UNPRINTABLE.search(name):
            raise DataFormatError(
                f"{place} has a class named {name[:MAX_NAME]!r}: expected 1 to {MAX_NAME} printable characters"
            )
    numbers = all(name.isascii() and name.isdecimal() for name in names)
    return tuple(sorted(set(names), key=lambda name: (int(name) if numbers else 0, name)))


def as_indices(labels: Sequence[object] | UInt8Array, classes: tuple[str, ...], place: str) -> UInt8Array:
    """Return the index of each label, a name or a number, among the classes.

    Raises:
        DataFormatError: There are too few or too many classes, or a label is none of them.
    """
    if not 2 <= len(classes) <= MAX_CLASSES:
        count = "one class" if len(classes) == 1 else f"{len(classes):,} classes"
        raise DataFormatError(f"{place} has {count}, expected 2 to {MAX_CLASSES}")
    index = {name: number for number, name in enumerate(classes)}
    found, inverse = np.unique(np.asarray(labels), return_inverse=True)
    for label in found:
        if str(label) not in index:
            raise DataFormatError(
                f"{place} has the label {str(label)[:MAX_NAME]!r}, which is outside the {len(classes)} classes of the "
                f"training images, {classes[0]} to {classes[-1]}"
            )
    return np.array([index[str(label)] for label in found], np.uint8)[inverse]


def check_memory_for(images: int, pixels: int, place: str) -> None:
    """Refuse images that do not fit in memory, twice: as they were found, and in the order of the cache.

    Raises:
        DataFormatError: They do not; states both figures.
    """
    needed, available = 2 * images * pixels, available_memory()
    if needed > available:
        raise DataFormatError(
            f"{place} has {counted(images, 'image')} of {counted(pixels, 'pixel')}, which need "
            f"{needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are free: expected data that fit in "
            "memory; give fewer or smaller images"
        )


def split_data(
    train: Examples, test: Examples | None, classes: tuple[str, ...], place: str, skipped: int = 0
) -> OwnData:
    """Choose the test images where none are given, and check that every class has images in both splits.

    Images that are grouped by class are shuffled, so that the last ones, which are held out for validation, are of all
    classes.

    Args:
        train: The images, or the training images.
        test: The test images, or None to choose them.
        classes: Names of the classes.
        place: Where the images were found, for messages.
        skipped: See `OwnData`.

    Raises:
        DataFormatError: A class has too few images.
    """
    height, width = train.images.shape[1:]
    shape = DatasetShape(height, width, classes)
    rule = SPLIT_RULE if test is None else None
    if test is None:
        train, test = _choose_test(train, classes, place, SPLIT_RULE)
    else:
        train, test = (
            _shuffle(split, number) if _is_grouped(split.labels) else split
            for number, split in enumerate((train, test))
        )
    for split, examples in (("training", train), ("test", test)):
        counts = np.bincount(examples.labels, minlength=len(classes))
        if not counts.all():
            raise DataFormatError(f"{place}: class {classes[int(counts.argmin())]} has no {split} images: add some")
    return OwnData(train, test, shape, skipped, rule)


def _is_grouped(labels: UInt8Array) -> bool:
    """Return whether neighbours differ in class less than half as often as they would in a random order."""
    shares = np.bincount(labels) / len(labels)
    return int(np.count_nonzero(np.diff(labels))) < (len(labels) - 1) * (1 - float(np.square(shares).sum())) / 2


def _choose_test(every: Examples, classes: tuple[str, ...], place: str, rule: SplitRule) -> tuple[Examples, Examples]:
    chosen = np.zeros(len(every.labels), np.bool_)
    for label, name in enumerate(classes):
        (rows,) = np.nonzero(every.labels == label)
        if len(rows) < 2:
            raise DataFormatError(
                f"{place}: class {name} has {counted(len(rows), 'image')}: expected at least 2, one "
                "to train on and one for the test"
            )
        chosen[rows[permutation(rule.seed, label, len(rows))[: max(1, len(rows) // rule.one_in)]]] = True
    splits = (Examples(every.images[rows], every.labels[rows]) for rows in (~chosen, chosen))
    train, test = (_shuffle(split, number) for number, split in enumerate(splits))
    return train, test


def _shuffle(examples: Examples, number: int) -> Examples:
    order = permutation(SPLIT_RULE.seed, MAX_CLASSES + number, len(examples.labels))
    return Examples(examples.images[order], examples.labels[order])
