"""The recipe of a training: the lab's equations, or the second form of two of them, and how its steps are chosen.

The defaults are the lab's. Every other value changes one line: of `mnist_bp.model.backprop` (loss, activation), of the
initial weights (initial), of the learning rate (schedule), or of the images (shift).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:  # a configuration is checked without NumPy
    import numpy as np
    import numpy.typing as npt

BiasGradient = Literal["mean", "sum"]
"""Reduction of the bias gradients over the batch; see `mnist_bp.model.backprop`."""

Loss = Literal["squared_error", "cross_entropy"]
"""What training minimizes; see `mnist_bp.model.backprop`."""

Activation = Literal["sigmoid", "relu"]
"""Activation of the hidden units; the outputs are always sigmoids."""

Initial = Literal["normal", "scaled"]
"""Initial weights: N(0, 1) as in the lab, or scaled to the number of inputs; see `Recipe.gain`."""

Schedule = Literal["constant", "linear"]
"""Learning rate: the same in every step, or falling linearly, to zero after the last step."""

MAX_SHIFT: Final = 3
"""Largest shift in pixels; a digit of MNIST has a margin of four on each side."""

SECOND_FORMS: Final = frozenset({"initial", "loss", "activation", "schedule", "shift"})
"""Settings whose default is the lab's one form; a run by the lab's forms is recorded without them."""


@dataclass(frozen=True)
class Recipe:
    """What decides the weights, besides the data, the sizes of network and batch, and the seed.

    Args:
        initial: Initial weights.
        loss: Loss.
        activation: Activation of the hidden units.
        bias_gradient: Reduction of the bias gradients.
        learning_rate: Learning rate of the first step.
        schedule: Learning rate of the later steps.
        steps: Steps of the whole training; only a linear schedule depends on them.
        shift: Largest number of pixels by which each image is moved at random in each epoch, along both axes.
    """

    initial: Initial = "normal"
    loss: Loss = "squared_error"
    activation: Activation = "sigmoid"
    bias_gradient: BiasGradient = "mean"
    learning_rate: float = 0.5
    schedule: Schedule = "constant"
    steps: int = 10_000
    shift: int = 0

    @property
    def gain(self) -> float | None:
        """Variance of the initial weights times the number of a unit's inputs; None for N(0, 1), as in the lab.

        Source: 1 for sigmoids (LeCun and others, "Efficient BackProp", 1998), 2 for ReLU, which passes half of its
        input (He and others, "Delving deep into rectifiers", 2015).
        """
        if self.initial == "normal":
            return None
        return 2.0 if self.activation == "relu" else 1.0

    @property
    def label(self) -> str:
        """The settings that differ from the lab's, such as `initial scaled, shift 1`; `lab` if none does."""
        changed = [
            f"{field.name.replace('_', ' ')} {str(getattr(self, field.name)).replace('_', '-')}"
            for field in fields(self)
            if field.name != "steps" and getattr(self, field.name) != field.default
        ]
        return ", ".join(changed) or "lab"

    def rates(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """List the learning rates of a range of steps.

        Args:
            start: First step of the range, counted from 0.
            stop: Step after the last of the range.
        """
        import numpy as np

        if self.schedule == "constant":
            return np.full(stop - start, self.learning_rate)
        return self.learning_rate * (1 - np.arange(start, stop) / self.steps)


def recipe_of(config: Mapping[str, Any]) -> Recipe:
    """Read the recipe from a run's configuration; a setting that it lacks is the lab's.

    Args:
        config: The settings by name, such as those that a manifest records.
    """
    return Recipe(**{field.name: config[field.name] for field in fields(Recipe) if field.name in config})
