"""JAX: many steps in one compiled `lax.scan`. Not among the project's dependencies: `pip install jax` adds this row."""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.peers import Task
from mnist_bp.model.parameters import IntArray, Model

CHUNK: Final = 500
"""Steps in one call: few enough to be compiled once for any number of steps, enough to make the call cost nothing."""


class Jax:
    """The equations as written, compiled by XLA."""

    def __init__(self, task: Task) -> None:
        self._x, self._t = jnp.asarray(task.pixels()), jnp.asarray(task.one_hot())
        self._learning_rate = task.learning_rate
        self._scan = jax.jit(self._steps)

    def advance(self, model: Model, batches: IntArray) -> Model:
        """See `Trainer`."""
        parameters: Any = tuple(jnp.asarray(array) for array in model)
        for start in range(0, len(batches), CHUNK):
            chunk = jnp.asarray(batches[start : start + CHUNK].astype(np.int32))
            parameters = self._scan(parameters, chunk, self._x, self._t)
        return Model(*(np.asarray(parameter) for parameter in parameters))

    def _steps(self, parameters: Any, batches: Any, pixels: Any, targets: Any) -> Any:
        eta = self._learning_rate

        def step(parameters: Any, batch: Any) -> tuple[Any, None]:
            W1, b1, W2, b2 = parameters
            x, t = pixels[batch], targets[batch]  # (B, D), (B, K)
            a1 = jax.nn.sigmoid(x @ W1 + b1)  # (B, H)
            a2 = jax.nn.sigmoid(a1 @ W2 + b2)  # (B, K)
            dz2 = (a2 - t) * a2 * (1 - a2)  # (B, K)  (1)
            dz1 = dz2 @ W2.T * a1 * (1 - a1)  # (B, H)  (4, 5)
            W1, b1 = W1 - eta * (x.T @ dz1), b1 - eta * dz1.mean(0)  # (6, 7)
            W2, b2 = W2 - eta * (a1.T @ dz2), b2 - eta * dz2.mean(0)  # (2, 3)
            return (W1, b1, W2, b2), None

        return lax.scan(step, parameters, batches)[0]
