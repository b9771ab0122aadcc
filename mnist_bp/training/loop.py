"""The training loop: the order of the examples, the gradient steps, and the models at each checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from mnist_bp.engines.interface import Batches, ResidentData
from mnist_bp.engines.parallel import on_every_core
from mnist_bp.errors import DivergenceError
from mnist_bp.model import rng
from mnist_bp.model.parameters import WIDTH, Model, UInt8Array, all_finite, initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape
from mnist_bp.training.shifts import Shifts

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

CHUNK_STEPS: Final = 1_000
"""Largest number of steps between two readings of the clock, each with a check that the weights are finite."""

CHUNK_EXAMPLES: Final = 100_000
"""Largest number of examples between them, so that large batches do not make the readings rare."""


@dataclass(frozen=True)
class Checkpoint:
    """The models after a number of steps.

    Args:
        step: Number of steps that each model has taken.
        models: One for each seed, in the order of the seeds.
        seconds: Time spent in training steps so far, in seconds.
    """

    step: int
    models: list[Model]
    seconds: float


class ExampleOrder:
    """The examples of each step. Every epoch has a separate shuffle, whose last partial batch is dropped.

    The order is a pure function of the arguments; the shuffle of the latest epoch is cached.

    Args:
        seed: See `RunConfig.seed`.
        examples: N, at least `batch_size`.
        batch_size: B, at least 1.
        recipe: Decides the learning rate of each step.
        shifts: How the images are moved; None if they are not.
    """

    def __init__(self, seed: int, examples: int, batch_size: int, recipe: Recipe, shifts: Shifts | None = None) -> None:
        self.seed, self._examples, self._batch_size = seed, examples, batch_size
        self._recipe, self._shifts = recipe, shifts
        self._epoch, self._shuffled, self._offsets = -1, np.empty(0, np.uint32), np.empty(0, np.int32)

    def batches(self, start: int, stop: int) -> Batches:
        """List the examples of a range of steps, with their shifts, and the learning rate of each step.

        Args:
            start: First step of the range, counted from 0.
            stop: Step after the last of the range.
        """
        rates, per_epoch = self._recipe.rates(start, stop), self._examples // self._batch_size
        rows, offsets = [], []
        while start < stop:
            epoch, offset = divmod(start, per_epoch)
            end = min(per_epoch, offset + stop - start)
            places = slice(offset * self._batch_size, end * self._batch_size)
            self._shuffle(epoch)
            rows.append(self._shuffled[places])
            offsets.append(self._offsets[places])
            start += end - offset
        return Batches(
            np.concatenate(rows).astype(np.int64).reshape(-1, self._batch_size),
            np.concatenate(offsets).reshape(-1, self._batch_size),
            rates,
        )

    def _shuffle(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._shuffled = rng.permutation(self.seed, epoch, self._examples).astype(np.uint32)
            if self._shifts is not None:
                self._offsets = self._shifts.offsets(self.seed, epoch, self._shuffled)
            elif not len(self._offsets):
                self._offsets = np.zeros(self._examples, np.int32)


def initial_models(config: RunConfig, seeds: Sequence[int], shape: DatasetShape = MNIST_SHAPE) -> list[Model]:
    """Draw the model of each seed.

    Args:
        config: Its other settings.
        seeds: One for each model.
        shape: The images that it reads, and its classes.
    """
    sizes = {"inputs": shape.inputs, "hidden": config.hidden, "classes": shape.classes}
    return on_every_core(partial(initial_parameters, **sizes, gain=config.recipe.gain), seeds)


def example_orders(
    config: RunConfig, images: UInt8Array, seeds: Sequence[int], width: int = WIDTH
) -> list[ExampleOrder]:
    """Return the order of the training images for each seed, with their shifts.

    Args:
        config: Recipe and batch size; its seeds are not used.
        images: Training images, shape (N, D).
        seeds: One for each model.
        width: Pixels in a row of an image.

    Raises:
        ConfigError: The images cannot be moved as the recipe says.
    """
    shifts = Shifts(images, width, config.shift) if config.shift else None
    return [ExampleOrder(seed, len(images), config.batch_size, config.recipe, shifts) for seed in seeds]


def train(
    config: RunConfig,
    data: ResidentData,
    models: Sequence[Model],
    orders: Sequence[ExampleOrder],
    on_progress: Callable[[int, float], None] | None = None,
    *,
    start: int = 0,
    seconds: float = 0.0,
) -> Iterator[Checkpoint]:
    """Train several models in parallel, from the first step or from any later one.

    A step depends only on its number and on the weights before it. The bits are therefore the same wherever training
    starts, and wherever it was interrupted.

    Args:
        config: Steps, recipe and the like; its seeds and its engine are not used.
        data: Training examples, as loaded by an engine.
        models: The weights of each model after `start` steps.
        orders: For each model, the order in which it sees the examples, and the learning rates.
        on_progress: Called with the steps taken and the training seconds, at least every `CHUNK_STEPS` steps.
        start: Number of steps taken before.
        seconds: Training time of those steps, in seconds.

    Yields:
        The models every `checkpoint_every` steps and after the last step.

    Raises:
        DivergenceError: A parameter became infinite or not a number; names the step.
    """
    recipe = config.recipe
    chunk = max(1, min(CHUNK_STEPS, CHUNK_EXAMPLES // config.batch_size))
    models, step = list(models), start
    while step < config.steps:
        checkpoint_at = min(config.steps, (step // config.checkpoint_every + 1) * config.checkpoint_every)
        stop = min(step + chunk, checkpoint_at)
        started = time.perf_counter()
        batches = on_every_core(ExampleOrder.batches, orders, [step] * len(orders), [stop] * len(orders))
        advanced = data.advance(models, batches, recipe)
        seconds += time.perf_counter() - started
        for model, order, each, after in zip(models, orders, batches, advanced, strict=True):
            if not all_finite(after):
                raise _divergence(config, order.seed, step, model, each, data)
        models, step = advanced, stop
        if on_progress is not None:
            on_progress(step, seconds)
        if step == checkpoint_at:
            yield Checkpoint(step, models, seconds)


def _divergence(
    config: RunConfig,
    seed: int,
    start: int,
    model: Model,
    batches: Batches,
    data: ResidentData,
) -> DivergenceError:
    """Repeat a range of steps that ended in non-finite parameters, to find the step at which they became so."""
    step = start
    while all_finite(model) and step - start < len(batches.rows):
        (model,) = data.advance([model], [batches.steps(step - start, step - start + 1)], config.recipe)
        step += 1
    return DivergenceError(
        f"training diverged at step {step}: a weight is no longer finite (seed {seed}, "
        f"learning rate {config.learning_rate}, batch size {config.batch_size}); try a smaller learning rate"
    )
