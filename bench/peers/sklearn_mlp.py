"""scikit-learn's `MLPClassifier`.

It has no squared error for classes: the output is a softmax with log-loss, and the gradient is the mean over the batch
for weights and biases alike. Hidden layer, batch size, learning rate, initial parameters and order are ours.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from sklearn.neural_network import MLPClassifier

from bench.peers import Task
from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import Model

CHUNK: Final = 500
"""Steps passed at once: 16 MB of pixels."""


class MLP:
    """`partial_fit`, which takes one step for each batch of its argument."""

    def __init__(self, task: Task) -> None:
        self._x, self._labels = task.pixels(), task.labels.astype(np.int64)
        self._task = task

    def advance(self, model: Model, batches: Batches) -> Model:
        """See `Trainer`."""
        network = self._start(model, batches.rows.shape[1])
        for start in range(0, len(batches.rows), CHUNK):
            rows = batches.rows[start : start + CHUNK].reshape(-1)
            network.partial_fit(self._x[rows], self._labels[rows])
        (W1, W2), (b1, b2) = network.coefs_, network.intercepts_
        return Model(W1, b1, W2, b2)

    def _start(self, model: Model, batch_size: int) -> MLPClassifier:
        network = MLPClassifier(
            (len(model.b1),),
            activation="logistic",
            solver="sgd",
            alpha=0,
            batch_size=batch_size,
            learning_rate_init=self._task.recipe.learning_rate,
            momentum=0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        # the first call draws the parameters and takes a step; they are then overwritten
        network.partial_fit(self._x[:batch_size], self._labels[:batch_size], classes=range(self._task.classes))
        for own, ours in zip(
            (*network.coefs_, *network.intercepts_), (model[0], model[2], model[1], model[3]), strict=True
        ):
            own[...] = ours
        return network
