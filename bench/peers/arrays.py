"""NumPy with every buffer allocated once."""

from __future__ import annotations

import numpy as np

from bench.peers import Pixels, Task
from mnist_bp.engines.interface import Batches
from mnist_bp.model.parameters import Model


class NumPy:
    """One NumPy call per operation, each writing to an existing buffer."""

    def __init__(self, task: Task) -> None:
        self._x, self._t = task.pixels(), task.one_hot()
        self._learning_rate = np.float32(task.recipe.learning_rate)

    def advance(self, model: Model, batches: Batches) -> Model:
        """See `Trainer`."""
        W1, b1, W2, b2 = (array.astype(np.float32) for array in model)
        (D, H), K, B = W1.shape, len(b2), batches.rows.shape[1]
        x, t, a1, a2, dz1, dz2, c1, c2 = (np.empty((B, width), np.float32) for width in (D, K, H, K, H, K, H, K))
        dW1, db1, dW2, db2 = (np.empty_like(parameter) for parameter in (W1, b1, W2, b2))
        xT, a1T, W2T, mean = x.T, a1.T, W2.T, np.full(B, 1 / B, np.float32)
        for batch in batches.rows:
            self._x.take(batch, 0, out=x, mode="clip")  # the default mode would fill a temporary buffer first
            self._t.take(batch, 0, out=t, mode="clip")
            sigmoid_(np.add(np.matmul(x, W1, out=a1), b1, out=a1))
            sigmoid_(np.add(np.matmul(a1, W2, out=a2), b2, out=a2))
            np.subtract(a2, t, out=dz2)
            np.multiply(dz2, self._learning_rate, out=dz2)  # once, so that every gradient below is a step
            dsigmoid_(dz2, a2, c2)  # (1)
            dsigmoid_(np.matmul(dz2, W2T, out=dz1), a1, c1)  # (4, 5)
            np.subtract(W2, np.matmul(a1T, dz2, out=dW2), out=W2)  # (2)
            np.subtract(b2, np.matmul(mean, dz2, out=db2), out=b2)  # (3)
            np.subtract(W1, np.matmul(xT, dz1, out=dW1), out=W1)  # (6)
            np.subtract(b1, np.matmul(mean, dz1, out=db1), out=b1)  # (7)
        return Model(W1, b1, W2, b2)


_HALF, _ONE = np.float32(0.5), np.float32(1)


def sigmoid_(z: Pixels) -> None:
    """Replace z by sigmoid(z), through tanh, which cannot overflow."""
    np.multiply(z, _HALF, out=z)
    np.tanh(z, out=z)
    np.multiply(z, _HALF, out=z)
    np.add(z, _HALF, out=z)


def dsigmoid_(da: Pixels, a: Pixels, room: Pixels) -> None:
    """Replace da by da * a * (1 - a)."""
    np.multiply(da, a, out=da)
    np.multiply(da, np.subtract(_ONE, a, out=room), out=da)
