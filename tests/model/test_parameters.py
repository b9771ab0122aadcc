"""Initial parameters, the random numbers they come from, and the forward pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_bp.model import rng
from mnist_bp.model.backprop import forward, loss
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Activation, Recipe
from tests.support.networks import random_problem

PUBLISHED_B2 = [0.1696, -1.2966, 0.3153, 0.9196, -0.1853, -1.0896, -0.2633, 0.3830, -0.6385, 1.4271]


def test_seed_1_gives_the_b2_that_the_lab_published() -> None:
    b2 = initial_parameters(1, 784, 30, 10).b2
    assert [f"{value:.4f}" for value in b2.tolist()] == [f"{value:.4f}" for value in PUBLISHED_B2]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_matches_the_published_test_vectors(counter: str, key: str, expected: str) -> None:
    """Source: the kat_vectors of Random123, philox4x32-10."""
    c0, c1, c2, c3 = (np.array([int(word, 16)], dtype=np.uint64) for word in counter.split())
    key0, key1 = (int(word, 16) for word in key.split())
    words = rng.philox((c0, c1, c2, c3), (key0, key1))
    assert [f"{int(word[0]):08x}" for word in words] == expected.split()


@pytest.mark.parametrize("element", [3, 16_383, 16_384, 40_000])
def test_seed_position_and_element_are_in_separate_words(element: int) -> None:
    """Box-Muller written out for an element of the draw at position 2, with each word in its place."""
    seed = (5 << 32) | 7
    counter = tuple(np.array([word], dtype=np.uint64) for word in (2, 0, element, 0))
    x, y, _, _ = rng.philox((counter[0], counter[1], counter[2], counter[3]), (7, 5))
    expected = math.sin(2 * math.pi * (int(y[0]) + 0.5) / 2**32) * math.sqrt(-2 * math.log((int(x[0]) + 0.5) / 2**32))
    assert rng.normal(seed, 2, element + 1)[element] == pytest.approx(expected, rel=1e-5)


def test_initial_parameters_are_standard_normal() -> None:
    W1 = initial_parameters(7, 784, 300, 10).W1.astype(np.float64)
    n = W1.size
    assert abs(W1.mean().item()) < 4 / n**0.5
    assert abs(W1.var().item() - 1) < 4 * (2 / n) ** 0.5
    assert abs((W1**3).mean().item()) < 4 * (15 / n) ** 0.5
    assert abs((W1**4).mean().item() - 3) < 4 * (96 / n) ** 0.5


def test_initial_parameters_differ_between_seeds_and_between_parameters() -> None:
    first, second = initial_parameters(1, 40, 40, 40), initial_parameters(2, 40, 40, 40)
    assert not np.isclose(first.W1, second.W1).any()
    assert not np.isclose(first.b1, first.b2).any()
    assert not np.isclose(first.W1[0], first.b1).any()


def test_the_upper_half_of_a_64_bit_seed_counts() -> None:
    assert not np.array_equal(rng.normal(1, 0, 10), rng.normal(1 + 2**32, 0, 10))


@given(seed=st.integers(0, 2**53 - 1), epoch=st.integers(0, 2**31), count=st.integers(1, 500))
def test_a_permutation_holds_every_number_once(seed: int, epoch: int, count: int) -> None:
    assert sorted(rng.permutation(seed, epoch, count).tolist()) == list(range(count))


def test_permutations_are_uniform_over_positions() -> None:
    """Chi-square of where element 0 lands, 2,000 shuffles of 10: 9 degrees of freedom, 99.99% below 33.7."""
    landings = [int(np.flatnonzero(rng.permutation(1, epoch, 10) == 0)[0]) for epoch in range(2_000)]
    counts = np.bincount(landings, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 33.7


def test_the_first_shuffle_is_not_the_order_of_the_first_weights() -> None:
    assert not np.array_equal(rng.permutation(1, 0, 100), np.argsort(rng.normal(1, 0, 100)))


@pytest.mark.parametrize("batch", [1, 7])
def test_forward_is_the_formula_written_out(batch: int) -> None:
    (W1, b1, W2, b2), x, _ = random_problem(0, 17, 5, 3, batch)
    a1 = 1 / (1 + torch.exp(-(x @ W1 + b1)))
    a2 = 1 / (1 + torch.exp(-(a1 @ W2 + b2)))
    found = forward(random_problem(0, 17, 5, 3, batch).parameters, x, "sigmoid")
    torch.testing.assert_close(found.a1, a1)
    torch.testing.assert_close(found.a2, a2)


def test_loss_is_half_the_squared_error_summed_over_batch_and_classes() -> None:
    a2, t = torch.tensor([[0.5, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert loss(a2, t, "squared_error").item() == (0.25 + 1.0) / 2


def test_cross_entropy_is_the_surprise_at_every_target_summed_over_batch_and_classes() -> None:
    a2, t = torch.tensor([[0.5, 0.25], [0.125, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert loss(a2, t, "cross_entropy").item() == pytest.approx(-math.log(0.5 * 0.75 * 0.875 * 1.0))


@pytest.mark.parametrize("batch", [1, 7])
def test_forward_with_relu_is_the_formula_written_out(batch: int) -> None:
    parameters, x, _ = random_problem(0, 17, 5, 3, batch)
    found = forward(parameters, x, "relu")
    torch.testing.assert_close(found.a1, (x @ parameters.W1 + parameters.b1).clamp(min=0))
    torch.testing.assert_close(found.a2, 1 / (1 + torch.exp(-(found.a1 @ parameters.W2 + parameters.b2))))


@pytest.mark.parametrize(("activation", "gain"), [("sigmoid", 1.0), ("relu", 2.0)])
def test_scaled_weights_are_those_of_the_lab_times_the_root_of_gain_over_inputs_and_biases_are_zero(
    activation: Activation, gain: float
) -> None:
    recipe = Recipe(initial="scaled", activation=activation)
    assert recipe.gain == gain
    lab, scaled = initial_parameters(3, 784, 30, 10), initial_parameters(3, 784, 30, 10, recipe.gain)
    np.testing.assert_allclose(scaled.W1, lab.W1 * math.sqrt(gain / 784), rtol=1e-6)
    np.testing.assert_allclose(scaled.W2, lab.W2 * math.sqrt(gain / 30), rtol=1e-6)
    assert not scaled.b1.any()
    assert not scaled.b2.any()
    assert {array.dtype for array in scaled} == {np.dtype("float32")}
