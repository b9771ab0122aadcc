"""The gate: whether a challenger is better than the champion, or only luckier.

Both have classified the same test images, so they are compared in pairs (McNemar's test). Images that both classify
correctly, or both incorrectly, carry no information. Of the others, b are correct only for the champion and c only for
the challenger. If the two were equally good, each of these b + c images would be the toss of a fair coin, and the exact
one-sided p is the probability of c or more heads:

    p = P(X >= c),  X ~ Binomial(b + c, 1/2)

A champion is challenged night after night, always on the same test images, and each night is another chance for an
equally good model to look better. So the k-th challenge to a champion must reach

    p <= significance / (k (k + 1))

These limits sum to the significance over any number of challenges, since 1/(k (k + 1)) = 1/k - 1/(k + 1): a champion is
ever replaced by equally good models with a probability of at most the significance. The significance divided by k alone
would not do: its sum grows without bound, to 6.5 times the significance in a year. Figures are in docs/gate.md.

Source: McNemar, Psychometrika 12 (1947), in its exact form; the sum is Boole's inequality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_bp.documents.champion import GateFigures

Classes = npt.NDArray[np.integer]
"""A class for each test image, in [0, K), shape (N,)."""


@dataclass(frozen=True)
class GateSettings:
    """The conditions that a challenger must meet.

    Args:
        significance: Highest accepted probability that equally good models ever replace a champion, in (0, 1].
        minimum_gain: Lowest accepted gain in accuracy, as a share of the test images.
        class_floor: Lowest accepted share of each class's images that the challenger classifies correctly.
    """

    significance: float = 0.05
    minimum_gain: float = 0.0
    class_floor: float = 0.75


@dataclass(frozen=True)
class GateDecision:
    """The decision of the gate.

    Args:
        promoted: Whether the challenger becomes champion.
        reason: The deciding conditions, in one sentence.
        figures: Everything that was compared.
    """

    promoted: bool
    reason: str
    figures: GateFigures


def allowed_p(significance: float, challenge: int) -> float:
    """Return the largest p that a challenger may have.

    Args:
        significance: See `GateSettings`.
        challenge: k, if it is the k-th challenge to the champion, from 1.
    """
    return significance / (challenge * (challenge + 1))


def decide(
    labels: Classes,
    challenger: Classes,
    champion: Classes | None,
    settings: GateSettings,
    challenge: int = 1,
    classes: int = 10,
    class_names: Sequence[str] | None = None,
) -> GateDecision:
    """Decide whether a challenger becomes champion. The first challenger of a dataset always does.

    Args:
        labels: True classes of the test images, N at least 1.
        challenger: Classes that the challenger predicts.
        champion: Classes that the champion predicts; None if the dataset has no champion.
        settings: The conditions.
        challenge: k, if it is the k-th challenge to the champion, from 1.
        classes: K.
        class_names: For the reason; None for the labels.
    """
    images, right = len(labels), challenger == labels
    accuracy = int(right.sum()) / images
    of_class = np.bincount(labels, minlength=classes).tolist()
    right_of_class = np.bincount(labels[right], minlength=classes).tolist()
    champion_accuracy = gain = b = c = p = None
    if champion is not None:
        champion_right = champion == labels
        champion_accuracy = int(champion_right.sum()) / images
        b, c = int((champion_right & ~right).sum()), int((right & ~champion_right).sum())
        p = mcnemar_p(b, c)
        gain = (c - b) / images  # the difference of two accuracies would be rounded, and miss a limit that is met
    figures = GateFigures(
        test_images=images,
        champion_accuracy=champion_accuracy,
        challenger_accuracy=accuracy,
        gain=gain,
        champion_alone_right=b,
        challenger_alone_right=c,
        p_value=p,
        challenger_per_class=tuple(
            hits / size if size else None for hits, size in zip(right_of_class, of_class, strict=True)
        ),
        significance=settings.significance,
        minimum_gain=settings.minimum_gain,
        class_floor=settings.class_floor,
        challenge=None if champion is None else challenge,
        allowed_p=None if champion is None else allowed_p(settings.significance, challenge),
    )
    return _check_conditions(figures, class_names or [str(label) for label in range(len(of_class))])


def mcnemar_p(b: int, c: int) -> float:
    """Return the probability of c or more heads in b + c tosses of a fair coin; 1 if c is 0.

    Args:
        b: Number of images that only the champion classifies correctly.
        c: Number of images that only the challenger classifies correctly.
    """
    tosses = b + c
    ways = total = 1  # the ways to toss only heads, then one tail more at a time: integers, so that nothing is rounded
    for heads in range(tosses, c, -1):
        ways = ways * heads // (tosses - heads + 1)
        total += ways
    return total / (1 << tosses)  # SciPy's binomial tail would do, but takes 0.2 s to import


def _check_conditions(figures: GateFigures, class_names: Sequence[str]) -> GateDecision:
    """Check every condition. The reason names the conditions that are not met, or else all of them."""
    accuracy, before, gain, p = figures.challenger_accuracy, figures.champion_accuracy, figures.gain, figures.p_value
    if before is None or gain is None or p is None:
        return GateDecision(True, f"the first champion of its dataset, with accuracy {accuracy:.4f}", figures)
    share, lowest = min((share, k) for k, share in enumerate(figures.challenger_per_class) if share is not None)
    conditions = (
        (gain >= figures.minimum_gain, f"gain {gain:+.4f}", f"at least {figures.minimum_gain:g}"),
        (
            p <= figures.largest_p,
            f"p = {p:.2g} from {figures.challenger_alone_right:,} images that only the challenger classifies correctly "
            f"and {figures.champion_alone_right:,} that only the champion does",
            f"at most {figures.largest_p:.3g} at challenge {figures.challenge} to this champion",
        ),
        (
            share >= figures.class_floor,
            f"class {class_names[lowest]} has the lowest accuracy, {share:.4f}",
            f"at least {figures.class_floor:g}",
        ),
    )
    promoted = all(met for met, *_ in conditions)
    deciding = [f"{figure} (required: {limit})" for met, figure, limit in conditions if met == promoted]
    return GateDecision(promoted, f"accuracy {accuracy:.4f}, champion's {before:.4f}: {'; '.join(deciding)}", figures)
