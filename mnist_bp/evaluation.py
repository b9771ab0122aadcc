"""Evaluation on the test images, which training never sees.

Two figures that must not be mixed: `accuracy` feeds the network pixels in [0, 1], as in training, and counts all test
images; `lab_correct_of_1000` repeats what the lab printed, which feeds raw pixels in [0, 255] and counts the first 1,000.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mnist_bp.network import Parameters, forward, loss
from mnist_bp.records import CheckpointScore

LAB_EXAMPLES: Final = 1_000


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
            accuracy_per_class=tuple((confusion.diag() / confusion.sum(1).clamp(min=1)).tolist()),
        )

    def confusion(self, parameters: Parameters) -> tuple[tuple[int, ...], ...]:
        """Count predictions: rows are true classes, columns predicted ones."""
        return tuple(tuple(row) for row in self._confusion(forward(parameters, self._x).a2).tolist())

    def _confusion(self, a2: Tensor) -> Tensor:
        cells = self._labels * self._classes + a2.argmax(1)
        return torch.bincount(cells, minlength=self._classes**2).view(self._classes, self._classes)
