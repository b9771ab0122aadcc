"""The comparison of two runs: its figures, and one self-contained HTML page of them in the style of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import JsonValue

from mnist_bp.model.parameters import UInt8Array
from mnist_bp.report.charts import Chart, Line, downsample, layout_chart
from mnist_bp.report.images import count_that_fits, digit_data_url
from mnist_bp.report.page import MAX_POINTS
from mnist_bp.report.template import content_policy, icon_data_url, page_environment
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape

MAX_IMAGES: Final = 48
"""Images that the page shows for each run; the figures are of all of them."""


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Args:
        run_id: Its id.
        created: Start of the run, in UTC, ISO 8601.
        accuracy: Share of the test images that it classifies correctly.
        loss: Loss after the last step, of the run's own kind.
        steps: Its last step.
        seed: Seed of its model.
        engine: Name of the engine that trained it.
        recipe: Its recipe, in words.
        train_seconds: Training time.
    """

    run_id: str
    created: str
    accuracy: float
    loss: float
    steps: int
    seed: int
    engine: str
    recipe: str
    train_seconds: float


@dataclass(frozen=True)
class Setting:
    """A setting that differs; None where a run has no such setting, or has not set it."""

    name: str
    a: JsonValue
    b: JsonValue


@dataclass(frozen=True)
class CheckpointPair:
    """Accuracy and loss of both runs after a number of steps; None where a run has no checkpoint."""

    step: int
    accuracy_a: float | None
    accuracy_b: float | None
    loss_a: float | None
    loss_b: float | None


@dataclass(frozen=True)
class ClassPair:
    """Share of the images of a class that each run classifies correctly; None for a class without images."""

    label: int
    images: int
    a: float | None
    b: float | None


@dataclass(frozen=True)
class McNemar:
    """The exact test of whether two equally good models would differ so much on the same images.

    Args:
        test_images: N.
        both_right, neither_right: Images that both, or neither, classify correctly; they decide nothing.
        a_alone_right, b_alone_right: Images that one alone classifies correctly.
        p_value: Two-sided: the gate's is one-sided, since it asks whether the challenger is better.
    """

    test_images: int
    both_right: int
    neither_right: int
    a_alone_right: int
    b_alone_right: int
    p_value: float


@dataclass(frozen=True)
class DisputedImage:
    """A test image that one run alone classifies correctly.

    Args:
        index: Row of the test split, from 0.
        label: Its true class.
        a, b: The predicted classes.
    """

    index: int
    label: int
    a: int
    b: int


@dataclass(frozen=True)
class Comparison:
    """Two runs of a dataset, A and B.

    Args:
        dataset: Name of the dataset.
        a, b: The runs.
        settings: Settings that differ, in order of name, and how the runs were made where that differs.
        checkpoints: In order of step.
        mcnemar: The test.
        classes: In order of class.
        a_alone: Images that A alone classifies correctly, in order of row.
        b_alone: Those that B alone does.
        same_loss: Whether both losses are of the same kind.
        notes: What else must be known to read the figures, one sentence each.
        class_names: In the order of the labels.
    """

    dataset: str
    a: Side
    b: Side
    settings: tuple[Setting, ...]
    checkpoints: tuple[CheckpointPair, ...]
    mcnemar: McNemar
    classes: tuple[ClassPair, ...]
    a_alone: tuple[DisputedImage, ...]
    b_alone: tuple[DisputedImage, ...]
    same_loss: bool
    notes: tuple[str, ...]
    class_names: tuple[str, ...] = MNIST_SHAPE.class_names

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        test, gain = self.mcnemar, self.b.accuracy - self.a.accuracy
        if test.a_alone_right == test.b_alone_right:
            better = "both classify the same number of test images correctly"
        else:
            more = abs(test.b_alone_right - test.a_alone_right)
            better = (
                f"{'B' if gain > 0 else 'A'} classifies {more:,} of {test.test_images:,} test images more correctly "
                f"({abs(gain):+.4f})"
            )
        return (
            f"{better}: {test.a_alone_right:,} that only A does, {test.b_alone_right:,} that only B does; "
            f"p = {test.p_value:.2g} (McNemar, exact, two-sided)"
        )


def comparison_html(comparison: Comparison, images: UInt8Array, shape: DatasetShape = MNIST_SHAPE) -> bytes:
    """Render the page; equal comparisons give equal bytes.

    Args:
        comparison: The comparison.
        images: The test images, pixels in [0, 255], shape (N, D).
        shape: Of the images.
    """
    count = count_that_fits(MAX_IMAGES, shape.inputs)
    page = (
        page_environment()
        .get_template("comparison.html")
        .render(
            about=comparison,
            names=comparison.class_names,
            height=shape.height,
            width=shape.width,
            icon=icon_data_url(),
            policy=content_policy(()),
            sides=(("A", comparison.a), ("B", comparison.b)),
            charts=[_chart(comparison, "accuracy"), *([_chart(comparison, "loss")] if comparison.same_loss else [])],
            alone=[
                (*names, len(found), [_picture(image, images, shape) for image in found[:count]])
                for *names, found in (("A", "B", comparison.a_alone), ("B", "A", comparison.b_alone))
            ],
        )
    )
    return page.encode()


def _chart(comparison: Comparison, measure: Literal["accuracy", "loss"]) -> Chart:
    lines = []
    for side, style in (("a", "main"), ("b", "second")):
        values = [(pair.step, getattr(pair, f"{measure}_{side}")) for pair in comparison.checkpoints]
        points = [(step, value) for step, value in values if value is not None]
        lines.append(Line(side.upper(), style, downsample(points, MAX_POINTS)))
    return layout_chart(measure, lines)


def _picture(image: DisputedImage, images: UInt8Array, shape: DatasetShape) -> dict[str, Any]:
    pixels = images[image.index].reshape(shape.height, shape.width)
    return {"about": image, "image": digit_data_url(pixels)}
