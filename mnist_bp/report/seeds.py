"""What several seeds of one training have in common: a histogram of their accuracies, and the seeds that collapsed.

A few seeds saturate some units early, and lose a class that they never recover: they collapse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from mnist_bp.report.axes import accuracy_axis
from mnist_bp.report.charts import Tick
from mnist_bp.results.evaluation import CheckpointScore, Evaluation

WIDTH: Final = 860
HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 12, 12, 22, 44

_MAX_BINS: Final = 40


class CollapsedSeed(NamedTuple):
    """A seed that collapsed.

    Args:
        seed: The seed.
        accuracy: Its accuracy after the last step, in [0, 1].
        label: The class that it lost.
        share: The share of that class's images that it reads correctly, in [0, 1].
        usual: The same share for the median seed.
    """

    seed: int
    accuracy: float
    label: int
    share: float
    usual: float


class Bar(NamedTuple):
    """A bar of a histogram, or the part of it for collapsed seeds."""

    x: float
    y: float
    width: float
    height: float
    collapsed: bool
    text: str


class Count(NamedTuple):
    """The number of seeds of a bin, above its bars."""

    x: float
    y: float
    number: int


@dataclass(frozen=True)
class Histogram:
    """A histogram of accuracies, ready for a template to draw; `own` is the place of the run's own model."""

    description: str
    x_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    counts: tuple[Count, ...]
    own: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def collapsed_seeds(evaluation: Evaluation) -> list[CollapsedSeed]:
    """List the seeds that read some class less than half as often as the median seed does, the worst seed first."""
    scores = evaluation.final_scores
    usual = [median(shares) for shares in zip(*(score.accuracy_per_class for score in scores), strict=True)]
    found = []
    for score in scores:
        lost = [label for label, share in enumerate(score.accuracy_per_class) if 2 * share < usual[label]]
        if lost:
            label = min(lost, key=lambda label: score.accuracy_per_class[label] / usual[label])
            share = score.accuracy_per_class[label]
            found.append(CollapsedSeed(score.seed, score.accuracy, label, share, usual[label]))
    return sorted(found, key=lambda each: (each.accuracy, each.seed))


def layout_histogram(evaluation: Evaluation, collapsed: Sequence[CollapsedSeed]) -> Histogram:
    """Compute the geometry of a histogram of the accuracies of all seeds after the last step.

    Args:
        evaluation: Scores of at least one seed.
        collapsed: The seeds to colour.
    """
    scores = evaluation.final_scores
    accuracies = [score.accuracy for score in scores]
    axis = accuracy_axis(min(accuracies), max(accuracies))
    count = min(_MAX_BINS, max(8, 2 * math.isqrt(len(scores)) + 4))
    bins: list[list[CheckpointScore]] = [[] for _ in range(count)]
    for score in scores:
        bins[min(count - 1, int(axis.place(score.accuracy) * count))].append(score)
    weak = {each.seed for each in collapsed}
    inner = WIDTH - _LEFT - _RIGHT
    step = inner / count
    unit = (HEIGHT - _TOP - _BOTTOM) / max(map(len, bins))  # pixels of height for each seed
    bars, counts = [], []
    for number, members in enumerate(bins):
        left, bottom = _LEFT + step * number, float(HEIGHT - _BOTTOM)
        for lost in (True, False):
            if part := [score for score in members if (score.seed in weak) == lost]:
                bottom -= unit * len(part)
                x, y, width, height = (round(value, 1) for value in (left, bottom, step, unit * len(part)))
                bars.append(Bar(x, y, width, height, lost, _text(part)))
        if members:
            counts.append(Count(round(left + step / 2, 1), round(bottom - 5, 1), len(members)))
    return Histogram(
        description=f"{len(scores):,} seeds: accuracy from {min(accuracies):.4f} to {max(accuracies):.4f}, "
        f"median {median(accuracies):.4f}",
        x_ticks=tuple(Tick(round(_LEFT + inner * tick.place, 1), tick.label) for tick in axis.ticks),
        bars=tuple(bars),
        counts=tuple(counts),
        own=round(_LEFT + inner * axis.place(evaluation.final.accuracy), 1),
    )


def _text(scores: Sequence[CheckpointScore]) -> str:
    if len(scores) == 1:
        return f"seed {scores[0].seed}: {scores[0].accuracy:.4f}"
    accuracies = [score.accuracy for score in scores]
    return f"{len(scores):,} seeds: {min(accuracies):.4f} to {max(accuracies):.4f}"
