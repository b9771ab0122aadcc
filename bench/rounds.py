"""What every measurement does with its rounds."""

from __future__ import annotations

import statistics
from typing import Any

from mnist_bp.errors import ConfigError


def check_rounds(runs: int) -> None:
    """Refuse to measure nothing.

    Raises:
        ConfigError: `runs` is below 1.
    """
    if runs < 1:
        raise ConfigError(f"bench: {runs} rounds: expected at least 1")


def spread(figures: list[float]) -> dict[str, Any]:
    """Summarize one figure, such as seconds, of each round."""
    return {
        "seconds": figures,
        "median": statistics.median(figures),
        "min": min(figures),
        "max": max(figures),
    }


def ratio(figures: list[float], to: list[float]) -> float:
    """Take the median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(figures, to, strict=True))
