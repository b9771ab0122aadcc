"""The forward pass in NumPy is that of `backprop.py`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mnist_bp.model.backprop import forward
from mnist_bp.model.inference import BLOCK, predict
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Activation

PIXELS = np.random.default_rng(1).integers(0, 256, (BLOCK + 7, 784)).astype(np.uint8)


def biases(count: int) -> npt.NDArray[np.float32]:
    return np.linspace(-1, 1, count, dtype=np.float32)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 100])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_outputs_are_those_of_backprop(activation: Activation, scale: float) -> None:
    model = initial_parameters(1, 784, 30, 10, gain=1.0)._replace(b1=biases(30), b2=biases(10))
    x = torch.from_numpy(PIXELS).float() * scale
    expected = forward(model.map(torch.from_numpy), x, activation).a2.numpy()
    found = predict(model, PIXELS, activation, scale)
    assert found.dtype == np.float32
    assert found.shape == (BLOCK + 7, 10)
    assert np.abs(found - expected).max() <= 1e-6
    assert expected.std() > 0.01


def test_weights_of_the_lab_saturate_without_a_warning() -> None:
    model = initial_parameters(1, 784, 30, 10)  # with raw pixels, z1 exceeds 1,000
    a2 = predict(model, PIXELS[:100], "sigmoid", 1)
    assert np.isfinite(a2).all()
    assert (a2 >= 0).all()
    assert (a2 <= 1).all()


def test_no_images_have_no_outputs() -> None:
    assert predict(initial_parameters(1, 784, 30, 10), PIXELS[:0], "sigmoid", 1 / 255).shape == (0, 10)
