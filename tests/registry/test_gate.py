"""The gate: its p against SciPy's own test, what it is symmetric and monotonic in, and which condition decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mnist_bp.documents import GateFigures
from mnist_bp.registry.gate import Classes, GateDecision, GateSettings, decide, mcnemar_p

LABELS = np.arange(1_000) % 10
LENIENT = GateSettings(class_floor=0)

pairs = st.integers(0, 10_000)


def answers(right: int, start: int = 0) -> Classes:
    """Answers that are right for as many images, from one on, and wrong for the others; every class alike."""
    wrong = (LABELS + 1) % 10
    wrong[start : start + right] = LABELS[start : start + right]
    return wrong


def verdict(challenger: Classes, champion: Classes | None, rule: GateSettings = LENIENT) -> GateDecision:
    return decide(LABELS, challenger, champion, rule)


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


@given(pairs, pairs)
def test_p_falls_with_what_the_challenger_alone_has_right_and_grows_with_the_reverse(b: int, c: int) -> None:
    assert mcnemar_p(b, c + 1) <= mcnemar_p(b, c) <= mcnemar_p(b + 1, c)


@given(pairs, pairs)
def test_the_two_directions_share_the_chance_of_what_was_seen(b: int, c: int) -> None:
    assert mcnemar_p(b, c) + mcnemar_p(c, b) == pytest.approx(1 + binom.pmf(c, b + c, 0.5), rel=1e-9)


@given(st.integers(0, 1_000), st.integers(0, 1_000), st.integers(0, 1_000))
def test_of_two_that_challenge_each_other_one_at_most_is_promoted(mine: int, yours: int, start: int) -> None:
    a, b = answers(mine), answers(yours, start)
    there, back = verdict(a, b), verdict(b, a)
    assert not (there.promoted and back.promoted)
    assert there.figures.gain == -(back.figures.gain or 0)
    assert (there.figures.champion_alone_right, there.figures.challenger_alone_right) == (
        back.figures.challenger_alone_right,
        back.figures.champion_alone_right,
    )


# --- which condition decides -------------------------------------------------


def test_the_first_becomes_champion_whatever_its_figures() -> None:
    found = verdict(answers(0), None, GateSettings(significance=0.001, minimum_gain=1, class_floor=1))
    assert found.promoted
    assert (
        found.figures.challenger_accuracy,
        found.figures.champion_accuracy,
        found.figures.gain,
        found.figures.p_value,
    ) == (0, None, None, None)
    assert "first champion" in found.reason


def test_a_clearly_better_one_is_promoted_with_every_figure() -> None:
    found = decide(LABELS, answers(900), answers(800), GateSettings())
    assert found.promoted
    assert found.reason == (
        "accuracy 0.9000, champion's 0.8000: gain +0.1000 (required: at least 0); p = 7.9e-31 from 100 images "
        "right with the challenger alone and 0 with the champion alone (required: at most 0.05); class 0 lowest with "
        "0.9000 (required: at least 0.75)"
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
    )


def test_an_identical_one_is_kept_out_with_p_1() -> None:
    found = verdict(answers(900), answers(900))
    assert (found.promoted, found.figures.p_value, found.figures.gain) == (False, 1, 0)
    assert "p = 1 from 0 images" in found.reason


def test_four_images_more_may_be_luck_and_five_are_not() -> None:
    assert not verdict(answers(804), answers(800)).promoted
    assert verdict(answers(805), answers(800)).promoted


@pytest.mark.parametrize(
    ("rule", "decisive"),
    [
        (GateSettings(significance=2.0**-11, class_floor=0), "p = 0.00098 from 10 images"),
        (GateSettings(minimum_gain=0.011, class_floor=0), "gain +0.0100 (expected: at least 0.011)"),
        (GateSettings(class_floor=0.811), "class 0 lowest with 0.8100 (expected: at least 0.811)"),
    ],
)
def test_one_condition_that_is_missed_decides_and_is_named_alone(rule: GateSettings, decisive: str) -> None:
    found = verdict(answers(810), answers(800), rule)
    assert not found.promoted
    assert decisive in found.reason
    assert found.reason.count("expected") == 1


@pytest.mark.parametrize(
    "rule",
    [
        GateSettings(significance=2.0**-10, class_floor=0),
        GateSettings(minimum_gain=0.01, class_floor=0),
        GateSettings(class_floor=0.81),
    ],
)
def test_a_limit_that_is_met_exactly_is_met(rule: GateSettings) -> None:
    assert verdict(answers(810), answers(800), rule).promoted


def test_a_class_that_is_lost_outweighs_any_gain() -> None:
    challenger = np.where(LABELS == 7, 0, LABELS)
    found = decide(LABELS, challenger, answers(0), GateSettings())
    assert not found.promoted
    assert found.figures.challenger_per_class[7] == 0
    assert "class 7 lowest with 0.0000" in found.reason


def test_a_class_without_images_is_below_no_floor() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    found = decide(labels, labels, 1 - labels, GateSettings(class_floor=1), classes=3)
    assert found.promoted
    assert found.figures.challenger_per_class == (1, 1, None)


@given(st.integers(0, 1_000), st.integers(0, 1_000))
def test_figures_agree_with_each_other(mine: int, start: int) -> None:
    found = verdict(answers(mine), answers(500, start))
    assert found.figures.champion_accuracy is not None
    assert found.figures.gain == pytest.approx(found.figures.challenger_accuracy - found.figures.champion_accuracy)
    assert found.figures.challenger_accuracy == pytest.approx(
        np.mean([share or 0 for share in found.figures.challenger_per_class])
    )
