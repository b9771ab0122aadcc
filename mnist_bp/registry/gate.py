"""The champion's gate: is a challenger better than the champion, or may it only have been lucky?

Both have classified the same test images, so they are compared in pairs (McNemar's test): images that both have right,
or both wrong, tell nothing. Of the others, b are right with the champion alone and c with the challenger alone. Were
the two equally good, each of those b + c would be a toss of a coin, and the exact one-sided p is the chance of c heads
or more:

    p = P(X >= c),  X ~ Binomial(b + c, 1/2)

Source: McNemar, Psychometrika 12 (1947), in its exact form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist_bp.documents import GateFigures

Classes = npt.NDArray[np.integer]
"""A class for each test image, in [0, K), shape (N,)."""


@dataclass(frozen=True)
class GateSettings:
    """What a challenger has to show.

    Args:
        significance: Most p may be, in (0, 1].
        minimum_gain: Least gain in accuracy, as a share of the test images.
        class_floor: Least share of each class's images that the challenger has right.
    """

    significance: float = 0.05
    minimum_gain: float = 0.0
    class_floor: float = 0.75


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and every figure that it compared.

    Args:
        promoted: Whether the challenger is to be champion.
        reason: In one sentence, what decided it.
        figures: What was compared.
    """

    promoted: bool
    reason: str
    figures: GateFigures


def decide(
    labels: Classes, challenger: Classes, champion: Classes | None, rule: GateSettings, classes: int = 10
) -> GateDecision:
    """Decide whether a challenger becomes champion. The first one does, whatever its figures.

    Args:
        labels: True classes of the test images, N at least 1.
        challenger: What it says they are.
        champion: What the champion says; None where there is none.
        rule: What is asked of a challenger that has one before it.
        classes: K.
    """
    images, right = len(labels), challenger == labels
    accuracy = int(right.sum()) / images
    of_class = np.bincount(labels, minlength=classes).tolist()
    right_of_class = np.bincount(labels[right], minlength=classes).tolist()
    per_class = tuple(hits / size if size else None for hits, size in zip(right_of_class, of_class, strict=True))
    if champion is None:
        promoted, reason = True, f"the first champion of its dataset, with accuracy {accuracy:.4f}"
        before = gain = b = c = p = None
    else:
        champion_right = champion == labels
        before = int(champion_right.sum()) / images
        b, c = int((champion_right & ~right).sum()), int((right & ~champion_right).sum())
        p = mcnemar_p(b, c)
        gain = (c - b) / images  # of two accuracies, the difference would be rounded, and miss a limit it meets
        promoted, reason = _decide(before, accuracy, gain, b, c, p, per_class, rule)
    figures = GateFigures(
        test_images=images,
        champion_accuracy=before,
        challenger_accuracy=accuracy,
        gain=gain,
        champion_alone_right=b,
        challenger_alone_right=c,
        p_value=p,
        challenger_per_class=per_class,
        significance=rule.significance,
        minimum_gain=rule.minimum_gain,
        class_floor=rule.class_floor,
    )
    return GateDecision(promoted, reason, figures)


def mcnemar_p(b: int, c: int) -> float:
    """Return the chance of c heads or more in b + c tosses of a fair coin; 1 where c is 0.

    Args:
        b: Images that the champion alone has right.
        c: Images that the challenger alone has right.
    """
    if c == 0:
        return 1.0
    from scipy.special import betainc  # 0.2 s: only where two are compared

    return float(betainc(c, b + 1, 0.5))  # P(X >= c) of Binomial(n, q) is I_q(c, n - c + 1)


def _decide(
    before: float,
    after: float,
    gain: float,
    b: int,
    c: int,
    p: float,
    per_class: tuple[float | None, ...],
    rule: GateSettings,
) -> tuple[bool, str]:
    """Return whether every condition is met, and in words: those that are not, or else all of them."""
    share, lowest = min((share, k) for k, share in enumerate(per_class) if share is not None)
    conditions = (
        (gain >= rule.minimum_gain, f"gain {gain:+.4f}", f"at least {rule.minimum_gain:g}"),
        (
            p <= rule.significance,
            f"p = {p:.2g} from {c:,} images right with the challenger alone and {b:,} with the champion alone",
            f"at most {rule.significance:g}",
        ),
        (share >= rule.class_floor, f"class {lowest} lowest with {share:.4f}", f"at least {rule.class_floor:g}"),
    )
    promoted = all(met for met, *_ in conditions)
    word = "asked" if promoted else "expected"
    decisive = [f"{figure} ({word}: {limit})" for met, figure, limit in conditions if met == promoted]
    return promoted, f"accuracy {after:.4f}, champion's {before:.4f}: {'; '.join(decisive)}"
