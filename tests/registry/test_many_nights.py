"""Hundreds of simulated nights: equally good models rarely replace a champion, and better ones do at once.

The null hypothesis: every night's model classifies image i correctly with the same probability p_i, independently of
the other images. The p_i are those of preset relu-128, whose seeds behave like this: shares of 64 trained models; see
docs/gate.md. Only the numbers of images on which two models differ count, so images with equal p_i are drawn together.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import betainc

from mnist_bp.registry.gate import GateDecision, GateSettings, decide

IMAGES: Final = 10_000
SETTINGS: Final = GateSettings(class_floor=0)

MODELS: Final = 64
IMAGES_BY_SHARE: Final = np.array(
    [
        *(6, 10, 4, 3, 1, 4, 5, 0, 6, 7, 5, 3, 2, 3, 3, 2, 4, 2, 4, 3, 1, 5, 0, 2, 1, 1, 1, 2, 2, 4, 4, 2),
        *(3, 2, 5, 6, 5, 3, 3, 8, 1, 2, 5, 5, 6, 9, 7, 4, 1, 8, 11, 6, 7, 9, 16, 12, 13, 15, 11, 32, 37, 45, 82),
    ]
)
"""Number of test images that 1, 2, ... 63 of 64 models of relu-128 classify correctly; 9,506 others all, 13 none."""

SHARES: Final = np.arange(1, MODELS) / MODELS
ALWAYS_WRONG, ALWAYS_RIGHT = 13, 9_506

# fmt: off
LAB_TO_SCALED: Final = (
    (219, 372), (153, 372), (195, 376), (233, 286), (159, 324), (195, 1289), (172, 331), (192, 350),
    (202, 388), (175, 414), (212, 359), (167, 392), (160, 285), (175, 1419), (206, 356), (272, 305),
    (177, 341), (187, 390), (217, 366), (173, 348), (160, 377), (142, 426), (140, 356), (195, 389),
)
SCALED_TO_RELU_128: Final = (
    (34, 512), (49, 457), (39, 505), (33, 530), (37, 454), (45, 474), (44, 446), (42, 490),
    (39, 481), (33, 475), (33, 525), (24, 430), (44, 468), (33, 512), (40, 500), (28, 569),
    (43, 474), (36, 473), (31, 609), (41, 491), (31, 473), (35, 475), (46, 446), (44, 517),
)
# fmt: on
"""Number of images that only the model of the first preset, and only that of the second, classifies correctly, for
seeds 1001 to 1024 of both.
"""

Counts = npt.NDArray[np.int64]


def p_of(b: Counts, c: Counts) -> npt.NDArray[np.float64]:
    """Return McNemar's p of many comparisons, by SciPy; see `mnist_bp.registry.gate.mcnemar_p`."""
    p: npt.NDArray[np.float64] = np.where(c == 0, 1.0, betainc(np.maximum(c, 1), b + 1, 0.5))
    return p


def decide_about(b: int, c: int, challenge: int) -> GateDecision:
    """Let the gate decide about a challenger, as the given challenge to a champion."""
    labels = np.zeros(IMAGES, np.uint8)
    champion, challenger = labels.copy(), labels.copy()
    challenger[:b] = 1
    champion[b : b + c] = 1
    return decide(labels, challenger, champion, SETTINGS, challenge, classes=1)


class Years:
    """Many simulated years at once: for each, the champion, as the images of each share that it classifies correctly.

    Args:
        number: How many.
        seed: Seed of all draws.
    """

    def __init__(self, number: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.champions = self._random.binomial(IMAGES_BY_SHARE, SHARES, (number, len(SHARES)))
        self.challenges = np.zeros(number, int)
        self.promotions = np.zeros(number, int)
        self.lucky = np.zeros(number, int)

    def night(self) -> None:
        """Let an equally good model challenge each champion."""
        lost, won = self.draw(SHARES)
        b, c = lost.sum(1), won.sum(1)
        p = p_of(b, c)
        self.challenges += 1
        self.lucky += p <= SETTINGS.significance
        for year in np.flatnonzero(p <= SETTINGS.significance):  # a larger p promotes at no challenge
            decision = decide_about(int(b[year]), int(c[year]), int(self.challenges[year]))
            assert decision.figures.p_value == pytest.approx(p[year])
            if decision.promoted:
                self.promotions[year] += 1
                self.challenges[year] = 0
                self.champions[year] += won[year] - lost[year]

    def draw(self, shares: npt.NDArray[np.float64]) -> tuple[Counts, Counts]:
        """Draw a challenger for each year: the images that only the champion, and only it, classifies correctly."""
        wrong = IMAGES_BY_SHARE - self.champions
        return self._random.binomial(self.champions, 1 - shares), self._random.binomial(wrong, shares)

    def power(self, gain: float) -> float:
        """Return the share of years in which a better model is promoted at the next challenge.

        Args:
            gain: Its gain in accuracy: it makes each mistake less often, by the same factor.
        """
        mistakes = (IMAGES_BY_SHARE @ (1 - SHARES) + ALWAYS_WRONG) / IMAGES
        lost, won = self.draw(1 - (1 - SHARES) * (1 - gain / mistakes))
        won_more = self._random.binomial(ALWAYS_WRONG, gain / mistakes, len(won))
        compared = zip(lost.sum(1), won.sum(1) + won_more, self.challenges, strict=True)
        return float(np.mean([decide_about(int(b), int(c), int(number) + 1).promoted for b, c, number in compared]))


@pytest.fixture(scope="module")
def simulated() -> Years:
    """Return 300 years after 365 nights, of which the first made the champion."""
    years = Years(300, seed=15)
    for _ in range(364):
        years.night()
    return years


def test_in_365_nights_equally_good_models_replace_a_champion_in_fewer_years_than_the_significance(
    simulated: Years,
) -> None:
    share = np.mean(simulated.promotions > 0)
    assert np.mean(simulated.lucky > 0) > 0.5, "without a count, most years would have a false promotion"
    assert share <= SETTINGS.significance, f"{share:.4f}"
    assert share > 0, "the gate is not closed"


# --- power -------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "power"), [(0.002, 0.45), (0.005, 0.99)])
def test_a_better_model_is_promoted_as_the_first_challenger_with_the_stated_power(gain: float, power: float) -> None:
    assert Years(400, seed=16).power(gain) == pytest.approx(power, abs=0.06)


@pytest.mark.parametrize(("gain", "power"), [(0.005, 0.35), (0.008, 0.99)])
def test_a_better_model_is_promoted_on_its_first_night_after_a_year_with_the_stated_power(
    gain: float, power: float, simulated: Years
) -> None:
    assert np.median(simulated.challenges) == 364
    assert simulated.power(gain) == pytest.approx(power, abs=0.08)


@pytest.mark.parametrize("withstood", [0, 300])
@pytest.mark.parametrize(
    ("compared", "promoted"), [(LAB_TO_SCALED, {0: 23, 300: 22}), (SCALED_TO_RELU_128, {0: 24, 300: 24})]
)
def test_a_model_of_a_better_preset_is_promoted_on_its_first_night(
    compared: tuple[tuple[int, int], ...], promoted: dict[int, int], withstood: int
) -> None:
    decisions = [decide_about(b, c, withstood + 1) for b, c in compared]
    assert sum(decision.promoted for decision in decisions) == promoted[withstood]
