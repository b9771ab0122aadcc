"""Evaluation on the test images, which training never sees.

Two figures that must not be mixed: `accuracy` feeds the network pixels in [0, 1], as in training, and counts all test
images; `lab_correct_of_1000` repeats what the lab printed: raw pixels in [0, 255], correct among the first 1,000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mnist_bp.checkpoints import load_checkpoint
from mnist_bp.network import Parameters, forward, loss
from mnist_bp.preprocess import load_split
from mnist_bp.records import CachedDataset, CheckpointScore, Evaluation, TrainedRun

LAB_EXAMPLES: Final = 1_000
"""Source: the lab's evaluation loop, which scores the first 1,000 test images alone."""


class Evaluator:
    """Holds the test images ready for any number of checkpoints.

    Args:
        images: Pixels in [0, 255], shape (N, D), uint8.
        labels: Classes in [0, K), shape (N,), uint8.
        classes: K.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: int = 10) -> None:
        self._x = images.float() / 255  # (N, D)
        self._x_raw = images[:LAB_EXAMPLES].float()
        self._labels = labels.long()
        self._t = one_hot(self._labels, classes).float()  # (N, K)
        self._classes = classes

    def score(self, step: int, parameters: Parameters) -> CheckpointScore:
        """Score one checkpoint.

        Args:
            step: Steps taken, for the record.
            parameters: float32, on the CPU.
        """
        a2 = forward(parameters, self._x).a2  # (N, K)
        confusion = self._confusion(a2)
        lab_hits = forward(parameters, self._x_raw).a2.argmax(1) == self._labels[:LAB_EXAMPLES]
        return CheckpointScore(
            step=step,
            accuracy=int(confusion.trace()) / len(a2),
            lab_correct_of_1000=int(lab_hits.sum()),
            loss=loss(a2, self._t).item() / len(a2),
            accuracy_per_class=tuple((confusion.diag() / confusion.sum(1).clamp(min=1).double()).tolist()),
        )

    def confusion(self, parameters: Parameters) -> tuple[tuple[int, ...], ...]:
        """Count predictions: rows are true classes, columns predicted ones."""
        return tuple(tuple(row) for row in self._confusion(forward(parameters, self._x).a2).tolist())

    def _confusion(self, a2: Tensor) -> Tensor:
        cells = self._labels * self._classes + a2.argmax(1)
        return torch.bincount(cells, minlength=self._classes**2).view(self._classes, self._classes)


def evaluate_run(
    data: CachedDataset, trained: TrainedRun, *, on_score: Callable[[CheckpointScore], None] | None = None
) -> Evaluation:
    """Score every checkpoint of a run on all test images.

    Args:
        data: Its test split is read.
        trained: Its checkpoints are read, each against its digest.
        on_score: Told about every checkpoint as it is scored.

    Raises:
        ChecksumError, DataFormatError, StoreError: A file is damaged, or not what it should be, or gone.
    """
    evaluator = Evaluator(*load_split(data.test))
    scores = []
    for point in trained.checkpoints:
        parameters = load_checkpoint(point.file)
        scores.append(evaluator.score(point.step, parameters))
        if on_score is not None:
            on_score(scores[-1])
    return Evaluation(tuple(scores), evaluator.confusion(parameters))
