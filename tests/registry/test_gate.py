"""The gate: its p compared with SciPy's test, its symmetry and monotonicity, and the deciding conditions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mnist_bp.documents.champion import GateFigures
from mnist_bp.registry.gate import Classes, GateDecision, GateSettings, allowed_p, decide, mcnemar_p

LABELS = np.arange(1_000) % 10
LENIENT = GateSettings(class_floor=0)

pairs = st.integers(0, 10_000)


def predictions(right: int, start: int = 0) -> Classes:
    """Predictions that are correct for a number of images, from one on, with all classes alike."""
    wrong = (LABELS + 1) % 10
    wrong[start : start + right] = LABELS[start : start + right]
    return wrong


def decision(challenger: Classes, champion: Classes | None, settings: GateSettings = LENIENT) -> GateDecision:
    return decide(LABELS, challenger, champion, settings)


# --- p -----------------------------------------------------------------------


@given(pairs, pairs)
def test_p_is_that_of_scipys_exact_binomial_test(b: int, c: int) -> None:
    expected = binomtest(c, b + c, alternative="greater").pvalue if b + c else 1.0
    assert mcnemar_p(b, c) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("b", "c", "p"), [(0, 0, 1), (7, 0, 1), (0, 1, 1 / 2), (0, 5, 1 / 32), (1, 2, 1 / 2), (1, 3, 5 / 16), (2, 3, 1 / 2)]
)
def test_p_counts_tosses_of_a_coin(b: int, c: int, p: float) -> None:
    assert mcnemar_p(b, c) == pytest.approx(p, rel=1e-14)


def test_p_of_as_many_images_as_mnist_has_is_precise() -> None:
    assert mcnemar_p(5_000, 5_000) == pytest.approx(0.5 + binom.pmf(5_000, 10_000, 0.5) / 2, rel=1e-9)
    assert mcnemar_p(0, 10_000) == 0.0  # 2**-10000
    assert mcnemar_p(10_000, 1) == 1.0


@given(pairs, pairs)
def test_p_decreases_with_c_and_increases_with_b(b: int, c: int) -> None:
    assert mcnemar_p(b, c + 1) <= mcnemar_p(b, c) <= mcnemar_p(b + 1, c)


@given(pairs, pairs)
def test_p_in_both_directions_adds_up_to_one_plus_the_probability_of_the_outcome(b: int, c: int) -> None:
    assert mcnemar_p(b, c) + mcnemar_p(c, b) == pytest.approx(1 + binom.pmf(c, b + c, 0.5), rel=1e-9)


@given(st.integers(0, 1_000), st.integers(0, 1_000), st.integers(0, 1_000))
def test_of_two_models_that_challenge_each_other_at_most_one_is_promoted(mine: int, yours: int, start: int) -> None:
    a, b = predictions(mine), predictions(yours, start)
    there, back = decision(a, b), decision(b, a)
    assert not (there.promoted and back.promoted)
    assert there.figures.gain == -(back.figures.gain or 0)
    assert (there.figures.champion_alone_right, there.figures.challenger_alone_right) == (
        back.figures.challenger_alone_right,
        back.figures.champion_alone_right,
    )


# --- which condition decides -------------------------------------------------


def test_the_first_challenger_becomes_champion_whatever_its_figures() -> None:
    found = decision(predictions(0), None, GateSettings(significance=0.001, minimum_gain=1, class_floor=1))
    assert found.promoted
    assert (
        found.figures.challenger_accuracy,
        found.figures.champion_accuracy,
        found.figures.gain,
        found.figures.p_value,
        found.figures.challenge,
    ) == (0, None, None, None, None)
    assert "first champion" in found.reason


def test_a_clearly_better_challenger_is_promoted_and_every_figure_recorded() -> None:
    found = decide(LABELS, predictions(900), predictions(800), GateSettings())
    assert found.promoted
    assert found.reason == (
        "accuracy 0.9000, champion's 0.8000: gain +0.1000 (required: at least 0); p = 7.9e-31 from 100 images "
        "that only the challenger classifies correctly and 0 that only the champion does (required: at most 0.025 at "
        "challenge 1 to this champion); "
        "class 0 has the lowest accuracy, 0.9000 (required: at least 0.75)"
    )
    assert found.figures == GateFigures(
        test_images=1_000,
        champion_accuracy=0.8,
        challenger_accuracy=0.9,
        gain=0.1,
        champion_alone_right=0,
        challenger_alone_right=100,
        p_value=2**-100,
        challenger_per_class=(0.9,) * 10,
        significance=0.05,
        minimum_gain=0.0,
        class_floor=0.75,
        challenge=1,
        allowed_p=0.025,
    )


def test_an_identical_challenger_is_not_promoted_and_p_is_1() -> None:
    found = decision(predictions(900), predictions(900))
    assert (found.promoted, found.figures.p_value, found.figures.gain) == (False, 1, 0)
    assert "p = 1 from 0 images" in found.reason


def test_a_gain_of_five_images_is_not_significant_and_one_of_six_is() -> None:
    assert not decision(predictions(805), predictions(800)).promoted
    assert decision(predictions(806), predictions(800)).promoted


@given(st.floats(1e-6, 1), st.integers(1, 3_000))
def test_the_limits_of_any_number_of_challenges_sum_to_less_than_the_significance(level: float, number: int) -> None:
    total = sum(allowed_p(level, challenge) for challenge in range(1, number + 1))
    assert total == pytest.approx(level * number / (number + 1), rel=1e-9)


def test_a_gain_that_suffices_at_the_first_challenge_does_not_at_the_seventh_and_the_reason_states_the_number() -> None:
    assert decision(predictions(810), predictions(800)).promoted  # p = 2**-10
    assert decide(LABELS, predictions(810), predictions(800), LENIENT, challenge=6).promoted
    found = decide(LABELS, predictions(810), predictions(800), LENIENT, challenge=7)
    assert not found.promoted
    assert "(required: at most 0.000893 at challenge 7 to this champion)" in found.reason
    assert (found.figures.challenge, found.figures.allowed_p) == (7, 0.05 / 56)


@pytest.mark.parametrize(
    ("settings", "deciding"),
    [
        (GateSettings(significance=2.0**-11, class_floor=0), "p = 0.00098 from 10 images"),
        (GateSettings(minimum_gain=0.011, class_floor=0), "gain +0.0100 (required: at least 0.011)"),
        (GateSettings(class_floor=0.811), "class 0 has the lowest accuracy, 0.8100 (required: at least 0.811)"),
    ],
)
def test_a_single_condition_that_is_not_met_is_the_only_one_named(settings: GateSettings, deciding: str) -> None:
    found = decision(predictions(810), predictions(800), settings)
    assert not found.promoted
    assert deciding in found.reason
    assert found.reason.count("required") == 1


@pytest.mark.parametrize(
    "settings",
    [
        GateSettings(significance=2.0**-9, class_floor=0),
        GateSettings(minimum_gain=0.01, class_floor=0),
        GateSettings(class_floor=0.81),
    ],
)
def test_a_limit_that_is_reached_exactly_is_met(settings: GateSettings) -> None:
    assert decision(predictions(810), predictions(800), settings).promoted


def test_a_class_without_correct_images_outweighs_any_gain() -> None:
    challenger = np.where(LABELS == 7, 0, LABELS)
    found = decide(LABELS, challenger, predictions(0), GateSettings())
    assert not found.promoted
    assert found.figures.challenger_per_class[7] == 0
    assert "class 7 has the lowest accuracy, 0.0000" in found.reason


def test_a_class_without_test_images_has_no_floor() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    found = decide(labels, labels, 1 - labels, GateSettings(class_floor=1), classes=3)
    assert found.promoted
    assert found.figures.challenger_per_class == (1, 1, None)


@given(st.integers(0, 1_000), st.integers(0, 1_000))
def test_the_figures_are_consistent(mine: int, start: int) -> None:
    found = decision(predictions(mine), predictions(500, start))
    assert found.figures.champion_accuracy is not None
    assert found.figures.gain == pytest.approx(found.figures.challenger_accuracy - found.figures.champion_accuracy)
    assert found.figures.challenger_accuracy == pytest.approx(
        np.mean([share or 0 for share in found.figures.challenger_per_class])
    )
