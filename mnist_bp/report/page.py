"""The report of a run: one self-contained HTML page.

The page fetches no script, font or file, and its content security policy forbids it to. It shows the contents of the
manifest and does not name the place where it is published: equal runs give equal bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mnist_bp.config import PLACES
from mnist_bp.documents.manifest import CheckpointEntry, Manifest
from mnist_bp.model.parameters import FloatArray, Model, UInt8Array, initial_parameters
from mnist_bp.model.recipe import recipe_of
from mnist_bp.report import style
from mnist_bp.report.charts import Chart, Line, downsample, layout_chart
from mnist_bp.report.images import digit_data_url, weights_data_url
from mnist_bp.results import Evaluation, Mistake

SIDE: Final = 28
"""Images are SIDE x SIDE pixels."""

MAX_UNITS: Final = 100
MAX_POINTS: Final = 100
MAX_SEEDS_DRAWN: Final = 64
MAX_ROWS: Final = 40
"""Limits per chart or table; more would enlarge the page without making it clearer."""

FULL_COLOUR: Final = 0.995
"""Share of the weights within the colour scale; larger weights get its ends."""


def report_html(manifest: Manifest, evaluation: Evaluation, model: Model, images: UInt8Array) -> bytes:
    """Render the page.

    Args:
        manifest: Manifest of the run; see `mnist_bp.registry.manifest.build_manifest`.
        evaluation: Scores of all models, and mistakes of the run's own model.
        model: The run's own model.
        images: The test images, pixels in [0, 255], shape (N, 784).
    """
    recipe = recipe_of(manifest.config)
    page = (
        page_environment()
        .get_template("report.html")
        .render(
            run=manifest,
            final=evaluation.final,
            recipe=recipe.label,
            charts=_charts(evaluation),
            rows=_downsampled_rows(manifest.checkpoints),
            confusion=evaluation.confusion,
            shades=[_shades(row, label) for label, row in enumerate(evaluation.confusion)],
            totals=[sum(row) for row in evaluation.confusion],
            mistakes=[_mistake(mistake, images) for mistake in evaluation.mistakes],
            units=_units(model, evaluation.seed, recipe.gain),
            hidden=model.W1.shape[1],
            environment={"engine": f"{manifest.engine} on {manifest.device}", **manifest.environment},
            config={name: _setting(value) for name, value in manifest.config.items() if name not in PLACES},
        )
    )
    return page.encode()


@cache
def page_environment() -> Environment:
    """Return the Jinja environment of the templates, which are compiled once, with their number formats as filters."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {name: getattr(style, name) for name in ("LIGHT", "DARK", "FONT_FAMILY", "css_colours")}
    environment.filters |= {"count": "{:,}".format, "share": "{:.4f}".format, "percent": "{:.1%}".format}
    return environment


def _charts(evaluation: Evaluation) -> list[Chart]:
    """Lay out accuracy and loss over steps: of the run's own model, and faintly of the other seeds' models."""
    scores = evaluation.checkpoints
    others = [seed for seed in dict.fromkeys(score.seed for score in evaluation.scores) if seed != evaluation.seed]

    def faint(measure: str) -> list[Line]:
        return [Line("other seeds", "faint", _points(evaluation, measure, seed)) for seed in others[:MAX_SEEDS_DRAWN]]

    lab = downsample([(score.step, score.lab_correct_of_1000 / 1_000) for score in scores], MAX_POINTS)
    accuracy, loss = (_points(evaluation, measure, evaluation.seed) for measure in ("accuracy", "loss"))
    return [
        layout_chart(
            "accuracy",
            [
                *faint("accuracy"),
                Line("as in the lab: first 1,000, raw pixels", "second", lab),
                Line("all test images", "main", accuracy),
            ],
        ),
        layout_chart("loss", [*faint("loss"), Line("all test images", "main", loss)]),
    ]


def _points(evaluation: Evaluation, measure: str, seed: int) -> list[tuple[int, float]]:
    points = [(score.step, getattr(score, measure)) for score in evaluation.scores if score.seed == seed]
    return downsample(points, MAX_POINTS)


def _downsampled_rows(checkpoints: Sequence[CheckpointEntry]) -> list[CheckpointEntry]:
    kept = {step for step, _ in downsample([(point.step, 0.0) for point in checkpoints], MAX_ROWS)}
    return [point for point in checkpoints if point.step in kept]


def _shades(row: Sequence[int], label: int) -> list[int]:
    """Return the colour intensity of each cell in a row of the confusion matrix, in per cent.

    At most 45, so that the counts stay readable. Mistakes take the square root, so that one in a thousand is visible.
    """
    shares = [count / (sum(row) or 1) for count in row]
    return [round(45 * share if index == label else min(45.0, 110 * share**0.5)) for index, share in enumerate(shares)]


def _mistake(mistake: Mistake, images: UInt8Array) -> dict[str, Any]:
    return {"about": mistake, "image": digit_data_url(images[mistake.index].reshape(SIDE, SIDE))}


def _units(model: Model, seed: int, gain: float | None) -> list[dict[str, Any]]:
    """Return the images of each hidden unit's weights, and the classes it supports and opposes most."""
    inputs, hidden = model.W1.shape
    if inputs != SIDE * SIDE:
        return []
    learned = model.W1 - initial_parameters(seed, inputs, hidden, model.W2.shape[1], gain).W1  # (D, H)
    return [
        {
            "learned": change,
            "weights": weights,
            "supports": int(outgoing.argmax()),
            "opposes": int(outgoing.argmin()),
        }
        for change, weights, outgoing in zip(_unit_images(learned), _unit_images(model.W1), model.W2, strict=False)
    ]


def _unit_images(weights: FloatArray) -> list[str]:
    """Return one image per hidden unit, all on the same colour scale.

    Args:
        weights: Shape (784, H).
    """
    full = float(np.quantile(np.abs(weights), FULL_COLOUR)) or 1.0
    return [weights_data_url(unit.reshape(SIDE, SIDE), full) for unit in weights.T[:MAX_UNITS]]


def _setting(value: object) -> object:
    """Return a setting as shown to a reader, without Python's words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else value
