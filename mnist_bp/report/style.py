"""The one visual language of every picture: the report, the chart of nights, and the PNG plots of `--plot`.

The page and the SVG take colours and fonts as custom properties from `css_colours`; matplotlib takes them by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LIGHT: Final[Mapping[str, str]] = {
    "paper": "#fcfbf9",
    "ink": "#22262b",
    "quiet": "#59616b",
    "rule": "#e3dfd8",
    "soft": "#f2efea",
    "accent": "#1d5fc4",
    "warm": "#d95f0e",
    "warm-ink": "#a8480a",
    "glow": "#cfe0fb",
}
"""Colours on paper: text and lines have a contrast of at least 4.5 with it, except the rules of a grid.

accent is what is measured, warm what it is compared with: blue and orange, distinguishable to colour-blind readers.
glow is behind what is active."""

DARK: Final[Mapping[str, str]] = {
    "paper": "#15181c",
    "ink": "#e4e6e9",
    "quiet": "#9ba4af",
    "rule": "#2e343b",
    "soft": "#1d2126",
    "accent": "#7db0ff",
    "warm": "#d95f0e",
    "warm-ink": "#ff9d5c",
    "glow": "#2a4a7d",
}
"""The same colours for a reader who prefers a dark page."""

SERIES: Final = ("#1d5fc4", "#d95f0e", "#0f766e", "#8b5cf6", "#b45309", "#be185d", "#4d7c0f", "#59616b")
"""Colours of several lines in one picture, in order; the first two are accent and warm, the last is quiet."""

POSITIVE: Final = (37, 99, 235)
NEGATIVE: Final = (217, 95, 14)
"""Weights in an image, as red, green, blue: visible on both white and black."""

FONTS: Final = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
"""Fonts in order of preference; those of the reader's system, since no picture fetches one."""

FONT_FAMILY: Final = ", ".join(f'"{name}"' if " " in name else name for name in FONTS)
"""`FONTS` as CSS has them."""


def css_colours(colours: Mapping[str, str]) -> str:
    """Return colours as custom properties of CSS: `--paper: #fcfbf9; --ink: ...`."""
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
