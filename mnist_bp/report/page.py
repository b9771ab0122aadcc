"""A run's report: one page for a person, that needs nothing but itself.

No script, no font and no file is fetched; a policy in the page forbids it to. It says what the manifest says, from
which it is made, and nothing of the place where it is published: equal runs give equal bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mnist_bp.config import PLACES
from mnist_bp.model.parameters import FloatArray, Model, UInt8Array, initial_parameters
from mnist_bp.report.charts import Chart, Line, downsample, layout_chart
from mnist_bp.report.images import digit_data_url, weights_data_url
from mnist_bp.results import Evaluation, Mistake

SIDE: Final = 28
"""Images are SIDE x SIDE pixels."""

MAX_UNITS: Final = 100
MAX_POINTS: Final = 100
MAX_SEEDS_DRAWN: Final = 64
MAX_ROWS: Final = 40
"""What is left out beyond them would make the page large, and no clearer."""

FULL_COLOUR: Final = 0.995
"""Share of the weights that lie within the range of colours."""


def report_html(manifest: Mapping[str, Any], evaluation: Evaluation, model: Model, images: UInt8Array) -> bytes:
    """Make the page.

    Args:
        manifest: The run's; see `mnist_bp.registry.manifest.build_manifest`.
        evaluation: The scores of all its models, and the mistakes of its own.
        model: The run's own model.
        images: The test images, pixels in [0, 255], shape (N, 784).
    """
    page = (
        page_environment()
        .get_template("report.html")
        .render(
            run=manifest,
            final=evaluation.final,
            charts=_charts(evaluation),
            rows=_downsampled_rows(manifest["checkpoints"]),
            confusion=evaluation.confusion,
            shades=[_shades(row, label) for label, row in enumerate(evaluation.confusion)],
            totals=[sum(row) for row in evaluation.confusion],
            mistakes=[_mistake(mistake, images) for mistake in evaluation.mistakes],
            units=_units(model, evaluation.seed),
            hidden=model.W1.shape[1],
            environment={"engine": f"{manifest['engine']} on {manifest['device']}", **manifest["environment"]},
            config={name: _setting(value) for name, value in manifest["config"].items() if name not in PLACES},
        )
    )
    return page.encode()


def page_environment() -> Environment:
    """Find the templates, and the ways in which they write figures."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": "{:,}".format, "share": "{:.4f}".format, "percent": "{:.1%}".format}
    return environment


def _charts(evaluation: Evaluation) -> list[Chart]:
    """Draw accuracy and loss over steps: of the run's own model, and faintly of those trained beside it."""
    scores = evaluation.checkpoints
    others = [seed for seed in dict.fromkeys(score.seed for score in evaluation.scores) if seed != evaluation.seed]

    def beside(measure: str) -> list[Line]:
        return [Line("other seeds", "faint", _points(evaluation, measure, seed)) for seed in others[:MAX_SEEDS_DRAWN]]

    lab = downsample([(score.step, score.lab_correct_of_1000 / 1_000) for score in scores], MAX_POINTS)
    accuracy, loss = (_points(evaluation, measure, evaluation.seed) for measure in ("accuracy", "loss"))
    return [
        layout_chart(
            "accuracy",
            [
                *beside("accuracy"),
                Line("the lab\u2019s own figure: first 1,000, raw pixels", "second", lab),
                Line("all test images", "main", accuracy),
            ],
        ),
        layout_chart("loss", [*beside("loss"), Line("all test images", "main", loss)]),
    ]


def _points(evaluation: Evaluation, measure: str, seed: int) -> list[tuple[int, float]]:
    points = [(score.step, getattr(score, measure)) for score in evaluation.scores if score.seed == seed]
    return downsample(points, MAX_POINTS)


def _downsampled_rows(checkpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = {step for step, _ in downsample([(point["step"], 0.0) for point in checkpoints], MAX_ROWS)}
    return [point for point in checkpoints if point["step"] in kept]


def _shades(row: Sequence[int], label: int) -> list[int]:
    """Choose how strongly the cells of a row are coloured, in per cent; never so strongly that figures fade.

    Square roots, so that one mistake in a thousand is seen beside a hundred.
    """
    shares = [count / (sum(row) or 1) for count in row]
    return [round(45 * share if place == label else min(45.0, 110 * share**0.5)) for place, share in enumerate(shares)]


def _mistake(mistake: Mistake, images: UInt8Array) -> dict[str, Any]:
    return {"about": mistake, "picture": digit_data_url(images[mistake.index].reshape(SIDE, SIDE))}


def _units(model: Model, seed: int) -> list[dict[str, Any]]:
    """Show what each hidden unit learned, and its weights, with the classes it speaks for and against."""
    inputs, hidden = model.W1.shape
    if inputs != SIDE * SIDE:
        return []
    learned = model.W1 - initial_parameters(seed, inputs, hidden, model.W2.shape[1]).W1  # (D, H)
    return [
        {
            "learned": learned_picture,
            "weights": weights,
            "speaks_for": int(outgoing.argmax()),
            "speaks_against": int(outgoing.argmin()),
        }
        for learned_picture, weights, outgoing in zip(_pictures(learned), _pictures(model.W1), model.W2, strict=False)
    ]


def _pictures(weights: FloatArray) -> list[str]:
    """Draw one picture for each hidden unit, all on one scale.

    Args:
        weights: Shape (784, H).
    """
    full = float(np.quantile(np.abs(weights), FULL_COLOUR)) or 1.0
    return [weights_data_url(unit.reshape(SIDE, SIDE), full) for unit in weights.T[:MAX_UNITS]]


def _setting(value: object) -> object:
    """Say a setting in words where Python's own are not a reader's."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else value
