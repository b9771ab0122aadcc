"""The report of a run: one self-contained HTML page.

The page fetches no script, font or file, and its content security policy forbids it to: it allows the scripts in the
page alone, by their digests. The page shows the contents of the manifest and does not name the place where it is
published: equal runs give equal bytes anywhere, if they come after the same runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from mnist_bp.config import PLACES
from mnist_bp.documents.manifest import CheckpointEntry, Manifest
from mnist_bp.model.parameters import FloatArray, Model, UInt8Array
from mnist_bp.model.recipe import recipe_of
from mnist_bp.report.axes import accuracy_axis, loss_axis
from mnist_bp.report.charts import Chart, Line, downsample, layout_chart
from mnist_bp.report.classes import MAX_MATRIX, class_bars, confusion_cells, most_confused
from mnist_bp.report.images import count_that_fits, digit_data_url, weights_data_url
from mnist_bp.report.script_data import Snapshot, max_snapshots, pixels_text, script_data
from mnist_bp.report.seeds import collapsed_seeds, layout_histogram
from mnist_bp.report.sweep import layout_sweep
from mnist_bp.report.template import content_policy, icon_data_url, page_environment, read_scripts
from mnist_bp.results.dataset import DatasetShape
from mnist_bp.results.evaluation import CheckpointScore, Evaluation, Mistake

MAX_UNITS: Final = 128
MAX_POINTS: Final = 100
MAX_SEEDS_DRAWN: Final = 64
MAX_COLLAPSED: Final = 20
MAX_ROWS: Final = 40
MAX_TRAY: Final = 64
"""Limits per chart or table; more would enlarge the page without making it clearer."""

FULL_COLOUR: Final = 0.995
"""Share of the weights within the colour scale; larger weights get its ends."""


class RunLink(NamedTuple):
    """Another run of the same dataset in the same store, whose report the page links to."""

    run_id: str
    accuracy: float


def report_html(
    manifest: Manifest,
    evaluation: Evaluation,
    snapshots: Sequence[Snapshot],
    images: UInt8Array,
    labels: UInt8Array,
    *,
    champion: RunLink | None = None,
    previous: RunLink | None = None,
) -> bytes:
    """Render the page.

    Args:
        manifest: Manifest of the run; see `mnist_bp.registry.manifest.build_manifest`.
        evaluation: Scores of all models, and mistakes of the run's own model.
        snapshots: The run's own model before the first step, at some checkpoints, and after the last step.
        images: The test images, pixels in [0, 255], shape (N, D).
        labels: Their classes, shape (N,).
        champion: The champion when the run started.
        previous: The newest run before it.
    """
    recipe, first, last = recipe_of(manifest.config), snapshots[0], snapshots[-1]
    sweep = layout_sweep(evaluation.models) if evaluation.models is not None and manifest.sweep else None
    collapsed = [] if sweep else collapsed_seeds(evaluation)
    charts = _charts(evaluation, first.score, {each.seed for each in collapsed})
    bars, bar_scale = class_bars(last.confusion)
    shape = manifest.dataset.shape
    units, full_scale = _units(first.model.W1, last.model, shape)
    data = _script_data(manifest, snapshots, images, labels, charts[0], full_scale)
    scripts = read_scripts()
    page = page_environment().get_template("report.html")
    return page.render(
        policy=content_policy(scripts),
        icon=icon_data_url(),
        run=manifest,
        final=evaluation.final,
        champion=champion,
        previous=previous,
        recipe=recipe.label,
        charts=charts,
        rows=_downsampled_rows(manifest.checkpoints),
        shape=shape,
        names=shape.class_names,
        longest=max(map(len, shape.class_names)),
        cells=confusion_cells(last.confusion) if shape.classes <= MAX_MATRIX else [],
        confused=[] if shape.classes <= MAX_MATRIX else most_confused(last.confusion),
        bars=bars,
        bar_scale=bar_scale,
        totals=[sum(row) for row in last.confusion],
        mistakes=[
            _mistake(mistake, images, shape)
            for mistake in evaluation.mistakes[: count_that_fits(len(evaluation.mistakes), shape.inputs)]
        ],
        histogram=layout_histogram(evaluation, collapsed) if len(manifest.seeds) > 1 and not sweep else None,
        sweep=sweep,
        collapsed=collapsed,
        collapsed_shown=collapsed[:MAX_COLLAPSED],
        units=units,
        cell_columns=math.ceil(math.sqrt(1.6 * len(units))),
        hidden=last.model.W1.shape[1],
        environment={"engine": f"{manifest.engine} on {manifest.device}", **manifest.environment},
        config={name: _setting(value) for name, value in manifest.config.items() if name not in PLACES},
        data=data,
        scripts=scripts,
    ).encode()


def _charts(evaluation: Evaluation, untrained: CheckpointScore, collapsed: set[int]) -> list[Chart]:
    """Lay out accuracy and loss over steps: of the run's own model, and faintly of the other seeds' models."""
    scores = [untrained, *_own_scores(evaluation)]
    others = [seed for seed in dict.fromkeys(score.seed for score in evaluation.scores) if seed != evaluation.seed]
    drawn = sorted(others, key=lambda seed: seed not in collapsed)[:MAX_SEEDS_DRAWN]

    def faint(measure: str) -> list[Line]:
        names = {False: ("other seeds", "faint"), True: ("collapsed seeds", "faint collapsed")}
        return [Line(*names[seed in collapsed], _points(evaluation.scores, measure, seed)) for seed in reversed(drawn)]

    def main(measure: str) -> Line:
        return Line("all test images", "main", _points(scores, measure, evaluation.seed))

    counts = [(score.step, score.lab_correct_of_1000) for score in scores]
    lab = downsample([(step, count / 1_000) for step, count in counts if count is not None], MAX_POINTS)
    second = [Line("as in the lab: first 1,000, raw pixels", "second", lab)] if lab else []
    return [
        layout_chart(
            "accuracy",
            [*faint("accuracy"), *second, main("accuracy")],
            y_axis=accuracy_axis,
        ),
        layout_chart("loss", [*faint("loss"), main("loss")], y_axis=loss_axis),
    ]


def _own_scores(evaluation: Evaluation) -> Sequence[CheckpointScore]:
    """Return the scores of the run's own model at all checkpoints, also those whose weights are not kept."""
    if (models := evaluation.models) is None:
        return evaluation.checkpoints
    return [models.score(place, models.best) for place in range(len(models.steps))]


def _points(scores: Sequence[CheckpointScore], measure: str, seed: int) -> list[tuple[int, float]]:
    points = [(score.step, getattr(score, measure)) for score in scores if score.seed == seed]
    return downsample(points, MAX_POINTS)


def _downsampled_rows(checkpoints: Sequence[CheckpointEntry]) -> list[CheckpointEntry]:
    kept = {step for step, _ in downsample([(point.step, 0.0) for point in checkpoints], MAX_ROWS)}
    return [point for point in checkpoints if point.step in kept]


def _mistake(mistake: Mistake, images: UInt8Array, shape: DatasetShape) -> dict[str, Any]:
    pixels = images[mistake.index]
    image = digit_data_url(pixels.reshape(shape.height, shape.width))
    return {"about": mistake, "image": image, "pixels": pixels_text(pixels)}


def _script_data(
    manifest: Manifest,
    snapshots: Sequence[Snapshot],
    images: UInt8Array,
    labels: UInt8Array,
    chart: Chart,
    full_scale: tuple[float, float],
) -> dict[str, Any] | None:
    """Return what the scripts work with; None if the weights are too large for a page."""
    inputs, hidden = snapshots[-1].model.W1.shape
    room = max_snapshots(inputs, hidden, snapshots[-1].model.W2.shape[1])
    if room == 0:
        return None
    embedded = snapshots if len(snapshots) <= room else snapshots[-1:]
    places = [chart.x(snapshot.score.step) for snapshot in embedded]
    return script_data(
        embedded,
        recipe_of(manifest.config).activation,
        _one_of_each(images, labels),
        int(labels[0]),
        manifest.dataset.name,
        manifest.dataset.shape,
        places,
        full_scale,
    )


def _one_of_each(images: UInt8Array, labels: UInt8Array) -> list[tuple[int, UInt8Array]]:
    """Return the first test image of each class, with the class, in order of class; of few classes, if they are large.

    The first test image is among them.
    """
    _, rows = np.unique(labels, return_index=True)
    chosen = np.sort(rows)[: count_that_fits(MAX_TRAY, images.shape[1])]
    return sorted(((int(labels[row]), images[row]) for row in chosen), key=lambda each: each[0])


def _units(start: FloatArray, model: Model, shape: DatasetShape) -> tuple[list[dict[str, Any]], tuple[float, float]]:
    """Return the image of each hidden unit, and the classes it supports and opposes most.

    Args:
        start: W1 before the first step, shape (D, H).
        model: The model after the last step.
        shape: Of the images.

    Returns:
        The units, and the magnitudes that get the full colour: of a change, and of a weight.
    """
    change = model.W1 - start
    full = _full_scale(change), _full_scale(model.W1)
    shown = count_that_fits(MAX_UNITS, shape.inputs)
    return [
        {
            "learned": weights_data_url(unit.reshape(shape.height, shape.width), full[0]),
            "supports": int(outgoing.argmax()),
            "opposes": int(outgoing.argmin()),
        }
        for unit, outgoing in zip(change.T[:shown], model.W2, strict=False)
    ], full


def _full_scale(weights: FloatArray) -> float:
    return float(np.quantile(np.abs(weights), FULL_COLOUR)) or 1.0


def _setting(value: object) -> object:
    """Return a setting as shown to a reader, without Python's words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else value
