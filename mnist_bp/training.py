"""Training: the order of the examples, the steps, and one record for each checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from mnist_bp import rng
from mnist_bp.datasets import check_batch_size
from mnist_bp.engines import Engine
from mnist_bp.errors import DivergenceError
from mnist_bp.network import Parameters, initial_parameters

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

STRIDE: Final = 1_000
"""Most steps between two looks at the clock and the weights."""

_STRIDE_EXAMPLES: Final = 100_000
""" ... and most examples, so that large batches do not make them rare."""


@dataclass(frozen=True)
class Checkpoint:
    """The parameters after a number of steps.

    Args:
        step: Steps taken.
        parameters: On the engine's device.
        seconds: Time spent in training steps so far.
    """

    step: int
    parameters: Parameters
    seconds: float


def train(
    config: RunConfig,
    engine: Engine,
    images: Tensor,
    labels: Tensor,
    classes: int = 10,
    on_progress: Callable[[int, float], None] | None = None,
) -> Iterator[Checkpoint]:
    """Train from the seed's initial parameters.

    Args:
        config: Steps, batch size, learning rate, seed and the like. Its engine is not looked at.
        engine: What computes the steps.
        images: Pixels in [0, 255], shape (N, D), uint8.
        labels: Classes in [0, K), shape (N,), uint8.
        classes: K.
        on_progress: Called with steps taken and training seconds, at least every `STRIDE` steps.

    Yields:
        A record every `checkpoint_every` steps and after the last.

    Raises:
        ConfigError: The batch is larger than the dataset.
        DivergenceError: A parameter became infinite or not a number; names the step.
    """
    check_batch_size(config.batch_size, len(images))
    images, labels = images.to(engine.device), labels.to(engine.device, torch.int64)
    advance = partial(
        engine.advance,
        images=images,
        labels=labels,
        learning_rate=config.learning_rate,
        bias_gradient=config.bias_gradient,
    )
    parameters = initial_parameters(config.seed, images.shape[1], config.hidden, classes)
    stride = max(1, min(STRIDE, _STRIDE_EXAMPLES // config.batch_size))
    step, seconds = 0, 0.0
    while step < config.steps:
        checkpoint_at = min(config.steps, (step // config.checkpoint_every + 1) * config.checkpoint_every)
        stop = min(step + stride, checkpoint_at)
        started = time.perf_counter()
        with _one_thread():
            batches = batches_between(config.seed, len(images), config.batch_size, step, stop).to(engine.device)
            advanced = advance(parameters, batches=batches)
            finite = advanced.all_finite()  # reading the answer waits for a GPU, so the time below is whole
            seconds += time.perf_counter() - started
            if not finite:
                raise _divergence(config, step, parameters, batches, advance)
        parameters, step = advanced, stop
        if on_progress is not None:
            on_progress(step, seconds)
        if step == checkpoint_at:
            yield Checkpoint(step, parameters, seconds)


def batches_between(seed: int, examples: int, batch_size: int, start: int, stop: int) -> Tensor:
    """List the examples of each step in a range: a pure function of its arguments.

    Every epoch is its own shuffle; its last partial batch is dropped.

    Args:
        seed: See `RunConfig.seed`.
        examples: N, at least `batch_size`.
        batch_size: B.
        start: First step of the range, from 0.
        stop: Step after the last.

    Returns:
        Row numbers, shape (stop - start, B), int64.
    """
    per_epoch = examples // batch_size
    pieces = []
    while start < stop:
        epoch, offset = divmod(start, per_epoch)
        end = min(per_epoch, offset + stop - start)
        pieces.append(_epoch_order(seed, epoch, examples)[offset * batch_size : end * batch_size])
        start += end - offset
    return torch.cat(pieces).view(-1, batch_size)


@lru_cache(maxsize=1)
def _epoch_order(seed: int, epoch: int, examples: int) -> Tensor:
    return torch.from_numpy(rng.permutation(seed, epoch, examples))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: steps this small only get slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _divergence(
    config: RunConfig,
    start: int,
    parameters: Parameters,
    batches: Tensor,
    advance: Callable[..., Parameters],
) -> DivergenceError:
    """Replay a range that ended in non-finite parameters, to name the step at which it went wrong."""
    step = start
    while parameters.all_finite() and step - start < len(batches):
        parameters = advance(parameters, batches=batches[step - start].unsqueeze(0))
        step += 1
    return DivergenceError(
        f"training diverged at step {step}: a weight is no longer finite "
        f"(--learning-rate {config.learning_rate}, --batch-size {config.batch_size}); try a smaller learning rate"
    )
