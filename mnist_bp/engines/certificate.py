"""The certificate: a *gradient check* of an engine against the equations, through the interface that training uses.

The network and its losses are stated once more in `statement.py`, which shares nothing with `backprop.py`, and autograd
differentiates them in float64. Against this statement, on synthetic images, are compared:

- The gradients. One step along a gradient g at learning rate r leads from q to q' = q - r g. At r = 2**20 (2**40 in
  float64) the step is so much larger than q that (q - q') / r equals g with no digit lost. So the gradients of any
  engine can be measured although no engine returns them.
- The predictions, with both scales of the pixels.
- The trajectory: the weights after some steps, each with another learning rate. How far rounding alone may lead away is
  measured too: the steps are repeated from weights that were each rounded once, as float32 rounds them. Each example of
  each step rounds the weights once more, and n roundings lead sqrt(n) times as far, in whatever order an engine adds.

What is certified in a short call for one model must hold in the calls of a training, which are longer and for several
models: one long call must end in the same bits as many short ones, and each of two models in the same as alone. Many
steps of a wide network take long, so the trajectory and the long calls have fewer hidden units. A call of two steps has
all of them, as gradients and predictions have: an engine may keep weights twice, and update one copy wrongly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mnist_bp.engines import statement
from mnist_bp.engines.certificate_data import Examples, synthetic_digits
from mnist_bp.engines.certificate_record import MAX_SIZE, Certificate, forms_of
from mnist_bp.engines.interface import PIXEL_SCALE, Batches, Engine, ResidentData, unmoved
from mnist_bp.engines.reference import one_thread
from mnist_bp.model import backprop
from mnist_bp.model.parameters import FloatArray, IntArray, Model, Parameters, initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape

LAB: Final = Recipe()

CALLS: Final = 11
CALL_STEPS: Final = 100
"""A call of CALLS * CALL_STEPS steps is compared with as many calls; training makes calls of up to 1,000 steps."""

_FEW_HIDDEN: Final = 33
"""Largest H of the trajectory, whose steps autograd repeats, and of long calls: two blocks of the cpu engine."""

_TRAJECTORY_BATCH: Final = 64
_CALL_BATCH: Final = 10
"""Largest B of the trajectory, and of long calls."""

_PROBE_RATE: Final = {"float32": 2.0**20, "float64": 2.0**40}
_RATE_TIMES_BATCH: Final = {
    ("squared_error", "sigmoid"): 5.0,
    ("squared_error", "relu"): 0.5,
    ("cross_entropy", "sigmoid"): 1.0,
    ("cross_entropy", "relu"): 0.2,
}
"""Product of learning rate and batch size on the trajectory, about as in the lab and in the presets."""

_OTHERS: Final = 16
"""Examples besides those of the batch by which the biases of its network are chosen."""

_CANDIDATES: Final = 8
"""With ReLU, so many more examples are drawn for a step than it needs; those closest to the kink are left out."""


def certify(
    engine: Engine,
    *,
    hidden: int = 30,
    batch_size: int = 10,
    recipe: Recipe = LAB,
    precisions: tuple[str, ...] = ("float32",),
    steps: int = CALL_STEPS,
    of: DatasetShape = MNIST_SHAPE,
) -> Certificate:
    """Check the gradients, the predictions, the trajectory and the calls of an engine.

    Args:
        engine: Engine to check.
        hidden: H of the network that it is checked on; at most `MAX_SIZE` of them are.
        batch_size: B; likewise.
        recipe: Equations that are checked; the learning rates are chosen here, and the measured bias gradients are
            always sums.
        precisions: Precisions of the measured gradients and predictions: `float32`, `float64`, or both.
        steps: Length of the trajectory.
        of: Size of the images, and number of classes, that it is checked on.
    """
    examples = synthetic_digits(recipe.shift, of)
    data = engine.load(examples.images, examples.labels, of.classes)
    started = time.perf_counter()
    hidden, batch_size = min(hidden, MAX_SIZE), min(batch_size, MAX_SIZE)
    shape = {"inputs": of.inputs, "hidden": hidden, "classes": of.classes, "batch_size": batch_size}
    few = {"hidden": min(hidden, _FEW_HIDDEN), "batch_size": min(batch_size, _TRAJECTORY_BATCH)}
    with one_thread():
        gradients, predictions, loss = _check_equations(data, examples, hidden, batch_size, recipe, precisions)
        weights = _check_trajectory(data, examples, **few, recipe=recipe, steps=steps)
        calls = _check_calls(data, examples, hidden, batch_size, recipe)
    return Certificate(
        engine=engine.name,
        device=engine.device,
        shape=shape,
        recipe=forms_of(recipe),
        gradients=gradients,
        predictions=predictions,
        loss=loss,
        trajectory={"steps": steps, **few},
        weights=weights,
        calls=calls,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
    )


# ---------------------------------------------------------------------------------------------------------------------
# gradients and predictions


def gradients_of(
    data: ResidentData, model: Model, batch: IntArray, recipe: Recipe, offsets: npt.NDArray[np.int32] | None = None
) -> Model:
    """Measure an engine's gradients with one step at a learning rate that makes the weights negligible.

    Args:
        data: A dataset loaded by the engine.
        model: The network.
        batch: Row numbers of the examples, shape (B,).
        recipe: Equations; the bias gradients are sums.
        offsets: How far each example is moved, shape (B,); None if they are not.

    Returns:
        The gradients of the loss, in float64.
    """
    rate = _PROBE_RATE[model.W1.dtype.name]
    batches = unmoved(batch[np.newaxis], rate)
    if offsets is not None:
        batches = batches._replace(offsets=offsets[np.newaxis])
    (after,) = data.advance([model], [batches], replace(recipe, bias_gradient="sum"))
    return Parameters(*((a.astype(np.float64) - b) / rate for a, b in zip(model, after, strict=True)))


def _check_equations(
    data: ResidentData, examples: Examples, hidden: int, batch_size: int, recipe: Recipe, precisions: tuple[str, ...]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], float]:
    """Compare gradients and predictions for each precision; and the loss of `backprop.py`, which no engine computes."""
    batch = np.resize(examples.rows, batch_size)  # of large images, there are fewer than a large batch has
    offsets, labels = examples.draw(1, 1, batch_size, 1.0).offsets[0], examples.labels[batch]
    x, t = statement.pixels(examples.moved(batch, offsets)), statement.one_hot(labels, examples.shape.classes)
    everything = statement.pixels(examples.images[examples.rows])
    model = _small_model(hidden, examples.shape.classes, torch.cat([x, everything[-_OTHERS:]]))
    exact = _cast("float64", model).map(torch.from_numpy)
    a2 = statement.predict(exact, everything, recipe.activation)
    expected = statement.differentiate(exact, x, t, recipe).map(Tensor.numpy)
    gradients, predictions = {}, {}
    for dtype in precisions:
        each = _cast(dtype, model)
        found = gradients_of(data, each, batch, recipe, offsets)
        gradients[dtype] = dict(zip(Parameters._fields, map(_error, found, expected), strict=True))
        raw = each._replace(W1=each.W1 / 255)  # the same predictions from pixels in [0, 255]
        predictions[dtype] = {
            name: _error(data.predict(of, recipe.activation, scale)[examples.rows], a2.numpy())
            for name, of, scale in (("1/255", each, PIXEL_SCALE), ("1", raw, 1.0))
        }
    a2 = statement.predict(exact, x, recipe.activation)
    loss = _error(backprop.loss(a2, t, recipe.loss).numpy(), statement.loss(a2, t, recipe.loss).numpy())
    return gradients, predictions, loss


def _small_model(hidden: int, classes: int, x: Tensor) -> Model:
    """Draw a network whose outputs are not saturated, since a saturated sigmoid magnifies the rounding of z1.

    Of images larger than MNIST's, the weights are smaller, so that z1 is not larger.

    Each unit's bias lies in the widest of the gaps that its z1 leave near their median, so that about half of the
    examples activate a ReLU, and rounding cannot move any across the kink. The first example activates at least half of
    the units, so that a batch of one has a gradient that is not zero.
    """
    drawn: Model = initial_parameters(1, x.shape[1], hidden, classes).map(lambda array: array / 8)
    if x.shape[1] > MNIST_SHAPE.inputs:
        drawn = drawn._replace(W1=drawn.W1 * np.float32(math.sqrt(MNIST_SHAPE.inputs / x.shape[1])))
    z1 = (x @ torch.from_numpy(drawn.W1.astype(np.float64))).numpy()  # (n, H), without the bias
    middle = np.sort(z1, axis=0)[len(z1) // 4 : len(z1) - len(z1) // 4]
    gap = np.diff(middle, axis=0).argmax(0)[np.newaxis]
    b1 = -(np.take_along_axis(middle, gap, 0) + np.take_along_axis(middle, gap + 1, 0))[0] / 2
    sign = np.where((z1[0] + b1 < 0) & (np.arange(hidden) % 2 == 0), -1, 1)
    shrunk = drawn.W2 * min(1, 8 / math.sqrt(hidden))
    return _cast("float32", Parameters(drawn.W1 * sign, b1 * sign, shrunk, drawn.b2))


# ---------------------------------------------------------------------------------------------------------------------
# the trajectory, and the calls


def _check_trajectory(
    data: ResidentData, examples: Examples, hidden: int, batch_size: int, recipe: Recipe, steps: int
) -> dict[str, dict[str, float]]:
    """Compare the weights after some steps with those of autograd."""
    (model,) = _initial_models([1], hidden, examples.shape, recipe)
    precise = _cast("float64", model)
    spare = _CANDIDATES if recipe.activation == "relu" else 0
    candidates = examples.draw(1, steps, batch_size + spare, _rate(recipe, batch_size, examples.shape))
    batches, (exact, one_rounding) = statement.follow(
        (precise, _rounded(precise)), examples, candidates, batch_size, recipe
    )
    (after,) = data.advance([model], [batches], recipe)
    return {
        name: {"engine": _error(found, expected), "one_rounding": _error(rounded, expected)}
        for name, found, rounded, expected in zip(Parameters._fields, after, one_rounding, exact, strict=True)
    }


def _check_calls(
    data: ResidentData, examples: Examples, hidden: int, batch_size: int, recipe: Recipe
) -> dict[str, bool]:
    """Compare the bits of the weights after one call with those after several calls for the same steps."""

    def same_in_calls(models: list[Model], batches: Batches, length: int) -> bool:
        after = models
        for start in range(0, len(batches.rows), length):
            after = data.advance(after, [batches.steps(start, start + length)], recipe)
        return _same_bits(data.advance(models, [batches], recipe), after)

    few_hidden, few = min(hidden, _FEW_HIDDEN), min(batch_size, _CALL_BATCH)
    first, second = _initial_models([1, 2], few_hidden, examples.shape, recipe)
    many = examples.draw(2, CALLS * CALL_STEPS, few, _rate(recipe, few, examples.shape))
    two = examples.draw(3, 2, batch_size, _rate(recipe, batch_size, examples.shape))
    several_steps = same_in_calls([first], many, CALL_STEPS) and same_in_calls(
        _initial_models([1], hidden, examples.shape, recipe), two, 1
    )
    of_first, of_second = many.steps(0, CALL_STEPS), many.steps(CALL_STEPS, 2 * CALL_STEPS)
    together = data.advance([first, second], [of_first, of_second], recipe)
    alone = [*data.advance([first], [of_first], recipe), *data.advance([second], [of_second], recipe)]
    return {"several steps": several_steps, "several models": _same_bits(together, alone)}


def _initial_models(seeds: Sequence[int], hidden: int, shape: DatasetShape, recipe: Recipe) -> list[Model]:
    """Draw initial weights as training does, but for a ReLU always scaled ones, since others saturate the outputs."""
    gain = recipe.gain or (2.0 if recipe.activation == "relu" else None)
    return [initial_parameters(seed, shape.inputs, hidden, shape.classes, gain) for seed in seeds]


def _rate(recipe: Recipe, batch_size: int, shape: DatasetShape) -> float:
    """Return a learning rate at which training does not diverge: gradients grow with the pixels and the classes."""
    larger = max(1, shape.inputs / MNIST_SHAPE.inputs) * max(1, shape.classes / MNIST_SHAPE.classes)
    return _RATE_TIMES_BATCH[recipe.loss, recipe.activation] / batch_size / larger


def _rounded(model: Model) -> Model:
    """Change every weight by as much as rounding to float32 can, up or down at random."""
    draw = np.random.RandomState(1)
    return model.map(lambda array: array * (1 + 2.0**-24 * draw.choice([-1, 1], array.shape)))


# ---------------------------------------------------------------------------------------------------------------------
# arrays


def _cast(dtype: str, model: Model) -> Model:
    return model.map(lambda array: array.astype(dtype))


def _error(found: FloatArray, expected: FloatArray) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def _same_bits(models: Sequence[Model], others: Sequence[Model]) -> bool:
    """Return whether all weights are finite and equal."""
    pairs = [pair for model, other in zip(models, others, strict=True) for pair in zip(model, other, strict=True)]
    return all(np.array_equal(a, b) and np.isfinite(a).all() for a, b in pairs)
