"""The parts of a report: charts, images, mistakes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.report.charts import HEIGHT, WIDTH, Line, downsample, layout_chart, nice_ticks
from mnist_bp.report.images import digit_data_url, weights_data_url
from mnist_bp.results import CachedDataset, RawDataset
from mnist_bp.training.evaluation import Evaluator
from tests.support.published_runs import train_and_evaluate


def decode(data_url: str) -> np.ndarray:
    kind, _, content = data_url.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(imread(io.BytesIO(base64.b64decode(content)), format="png"))


def test_the_image_of_a_digit_has_its_exact_pixels() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28)).astype(np.uint8)
    assert np.array_equal(np.rint(decode(digit_data_url(pixels)) * 255), pixels)


def test_weights_are_blue_if_positive_orange_if_negative_and_transparent_at_zero() -> None:
    colours = decode(weights_data_url(np.array([[2.0, 1.0, 0.5, 0.0, -1.0]]), 1.0))[0]
    opacity = colours[:, 3]
    assert opacity.tolist() == pytest.approx([1, 1, 0.5, 0, 1], abs=0.03)
    assert colours[1, 2] > colours[1, 0]
    assert colours[4, 0] > colours[4, 2]


@given(st.floats(0, 1e3), st.floats(1e-4, 1e3))
def test_ticks_are_few_evenly_spaced_and_enclose_the_values(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span, outside=True)
    gaps = np.diff(ticks)
    assert 2 <= len(ticks) <= 8
    assert np.allclose(gaps, gaps[0])
    assert ticks[0] <= low + gaps[0] * 1e-6
    assert ticks[-1] >= low + span - gaps[0] * 1e-6


def test_ticks_of_known_ranges_are_round() -> None:
    assert nice_ticks(0, 10_000) == [0, 2_000, 4_000, 6_000, 8_000, 10_000]
    assert nice_ticks(0.7764, 0.9201, outside=True) == pytest.approx([0.75, 0.8, 0.85, 0.9, 0.95])


def test_larger_values_are_drawn_higher_and_all_inside_the_chart() -> None:
    chart = layout_chart("accuracy", [Line("all", "main", [(100, 0.5), (200, 0.75), (300, 0.9)])])
    heights = [mark.y for mark in chart.marks]
    assert heights == sorted(heights, reverse=True)
    assert all(0 < mark.x < WIDTH and 0 < mark.y < HEIGHT for mark in chart.marks)


def test_a_single_checkpoint_can_be_drawn() -> None:
    assert len(layout_chart("loss", [Line("all", "main", [(1, 0.0)])]).marks) == 1


def test_downsampling_keeps_the_last_point_and_at_most_the_maximum() -> None:
    points = [(step, 0.5) for step in range(1, 1_001)]
    kept = downsample(points, 40)
    assert len(kept) <= 40
    assert kept[-1] == points[-1]
    assert downsample(points[:5], 40) == points[:5]


def test_the_most_confident_mistakes_have_the_largest_margins_of_all_images(sample: CachedDataset) -> None:
    images, labels = load_split(sample.test)
    model = initial_parameters(1, 784, 30, 10)
    found = Evaluator(ReferenceEngine(), images, labels, Recipe()).mistakes(model, 10)
    a1 = 1 / (1 + np.exp(-(images / 255 @ model.W1.astype(np.float64) + model.b1)))
    a2 = 1 / (1 + np.exp(-(a1 @ model.W2.astype(np.float64) + model.b2)))
    margins = sorted((a2[i].max() - a2[i, label] for i, label in enumerate(labels)), reverse=True)[:10]
    assert [mistake.confidence - mistake.true_class_output for mistake in found] == pytest.approx(margins, abs=1e-5)
    for mistake in found:
        assert mistake.label == labels[mistake.index] != mistake.predicted == a2[mistake.index].argmax()


def test_a_report_is_small_names_no_address_or_directory_and_states_what_the_accuracy_of_a_champion_means(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path
) -> None:
    run = train_and_evaluate(sample_raw, sample, tmp_path / "data", seeds="1..3")
    page = Path(run.publish(str(tmp_path / "artifacts")).artifacts, "report.html").read_text()
    assert len(page) < 400_000
    assert "://" not in page
    assert str(tmp_path) not in page
    assert "<script" not in page
    assert "is at most 0.05 / (k (k + 1)) as the k-th challenge to that champion" in page
    assert "expect a champion to be less accurate on new ones" in page
