"""How well each class is read: the cells of a confusion matrix, and a bar for each class's share of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

Confusion = Sequence[Sequence[int]]
"""Counts; rows are true classes, columns are predicted classes."""

_SCALES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares that a full bar can stand for."""


MAX_MATRIX: Final = 30
"""Classes of the largest confusion matrix that a page shows; of more classes, it lists `MAX_CONFUSED` cells."""

MAX_CONFUSED: Final = 20


class Confused(NamedTuple):
    """A pair of classes: how many images of the first are taken for the second."""

    label: int
    predicted: int
    number: int


class Cell(NamedTuple):
    """A cell of a confusion matrix: a number of images, and the strength of its colour in per cent."""

    number: int
    shade: int


class ClassBar(NamedTuple):
    """The errors of a class.

    Args:
        accuracy: Share of the class's images that are read correctly, in [0, 1].
        width: Length of the bar of its errors, in per cent of the longest possible bar.
    """

    accuracy: float
    width: float


def confusion_cells(confusion: Confusion) -> list[list[Cell]]:
    """Return the cells of a confusion matrix.

    The strongest colour is 45 %, so that the counts stay readable. Mistakes take the square root of their share, so
    that one in a thousand is visible.
    """
    return [
        [Cell(count, _shade(count / (sum(row) or 1), label == column)) for column, count in enumerate(row)]
        for label, row in enumerate(confusion)
    ]


def most_confused(confusion: Confusion) -> list[Confused]:
    """Return the pairs of classes with the most mistakes, the most frequent first."""
    pairs = [
        Confused(label, predicted, number)
        for label, row in enumerate(confusion)
        for predicted, number in enumerate(row)
        if number and label != predicted
    ]
    return sorted(pairs, key=lambda pair: -pair.number)[:MAX_CONFUSED]


def class_bars(confusion: Confusion) -> tuple[list[ClassBar], str]:
    """Return a bar for each class, and the share of errors that a full bar stands for, such as `20 %`.

    Bars begin at no error: their lengths can be compared, which those of accuracies between 0.9 and 1 cannot.
    """
    wrong = [1 - row[label] / sum(row) if sum(row) else 0.0 for label, row in enumerate(confusion)]
    scale = next(scale for scale in _SCALES if max(wrong) <= scale)
    return [ClassBar(1 - share, round(100 * share / scale, 1)) for share in wrong], f"{scale:.0%}".replace("%", " %")


def _shade(share: float, right: bool) -> int:
    return round(45 * share if right else min(45.0, 110 * share**0.5))
