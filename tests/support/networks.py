"""Random networks and batches for tests, every recipe, the CPU engines, and the distance of two results."""

from __future__ import annotations

from typing import NamedTuple, get_args

import pytest
import torch
from torch import Tensor

from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.parameters import Parameters
from mnist_bp.model.recipe import Activation, Loss, Recipe

LAB = Recipe()
RECIPES = tuple(
    Recipe(loss=loss, activation=activation, bias_gradient="sum")
    for loss in get_args(Loss)
    for activation in get_args(Activation)
)
"""Every form of the equations, with gradients of the loss."""

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.loss}, {recipe.activation}")

CPU_ENGINES: tuple[Engine, ...] = (ReferenceEngine(), CpuEngine())


class Problem(NamedTuple):
    """A network and one batch."""

    parameters: Parameters[Tensor]
    x: Tensor
    t: Tensor


def random_problem(
    seed: int, inputs: int, hidden: int, classes: int, batch: int, dtype: torch.dtype = torch.float64
) -> Problem:
    """Draw a network and a batch without zeros: all zeros would agree with any wrong gradient."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    parameters = Parameters(normal(inputs, hidden), normal(hidden), normal(hidden, classes), normal(classes))
    x = torch.rand(batch, inputs, generator=generator, dtype=dtype)
    labels = torch.randint(classes, (batch,), generator=generator)
    return Problem(parameters, x, torch.eye(classes, dtype=dtype)[labels])


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()
