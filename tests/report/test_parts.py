"""The parts of a report: charts, images, mistakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
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
from mnist_bp.report.axes import AxisFactory, accuracy_axis, linear_axis, loss_axis, nice_ticks
from mnist_bp.report.charts import HEIGHT, WIDTH, Line, downsample, layout_chart
from mnist_bp.report.classes import class_bars, confusion_cells
from mnist_bp.report.images import digit_data_url, weights_data_url
from mnist_bp.report.page import report_html
from mnist_bp.report.script_data import Snapshot, max_snapshots
from mnist_bp.report.seeds import collapsed_seeds, layout_histogram
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.evaluation import CheckpointScore, Evaluation, Mistake
from mnist_bp.training.evaluation import Evaluator
from tests.support.published_runs import checkpoint, manifest_of, run_id_of, train_and_evaluate


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


@pytest.mark.parametrize("make", [linear_axis, loss_axis, accuracy_axis])
@given(values=st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=5))
def test_every_value_has_a_place_on_an_axis_in_order_between_its_first_and_last_tick(
    make: AxisFactory, values: list[float]
) -> None:
    values.sort()
    axis = make(values[0], values[-1])
    places = [axis.place(value) for value in values]
    assert places == sorted(places)
    assert all(-1e-6 <= place <= 1 + 1e-6 for place in places)
    ticks = [tick.place for tick in axis.ticks]
    assert 2 <= len(ticks) <= 12
    assert [ticks[0], ticks[-1]] == pytest.approx([0, 1])


def test_an_axis_of_accuracies_has_equal_distances_for_equal_ratios_of_errors() -> None:
    axis = accuracy_axis(0.1, 0.986)
    assert [tick.label for tick in axis.ticks] == ["0.00", "0.50", "0.80", "0.90", "0.95", "0.98", "0.99"]
    assert axis.place(0.9) - axis.place(0.8) == pytest.approx(axis.place(0.98) - axis.place(0.96))
    assert axis.place(1) == 1


def test_an_axis_of_losses_has_round_ticks() -> None:
    assert [tick.label for tick in loss_axis(0.06, 1.2).ticks] == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
    assert [tick.label for tick in loss_axis(3e-6, 1.2).ticks] == [
        "1e-06",
        "1e-05",
        "0.0001",
        "0.001",
        "0.01",
        "0.1",
        "1",
        "10",
    ]


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
    assert page.count("<script") == 3  # its data, and the two that its policy allows
    assert "is at most 0.05 / (k (k + 1)) as the k-th challenge to that champion" in page
    assert "expect a champion to be less accurate on new ones" in page


def test_bars_of_errors_begin_at_zero_and_their_scale_is_round() -> None:
    bars, scale = class_bars([[90, 10], [3, 97]])
    assert (bars, scale) == ([(0.9, 100.0), (0.97, pytest.approx(30))], "10 %")
    assert class_bars([[5, 0], [0, 0]]) == ([(1.0, 0.0), (1.0, 0.0)], "1 %")


def test_a_mistake_of_one_image_in_a_thousand_is_coloured_and_no_colour_hides_its_count() -> None:
    ((right, wrong), (none, all_right)) = confusion_cells([[999, 1], [0, 50]])
    assert (right, wrong) == ((999, 45), (1, 3))
    assert (none, all_right) == ((0, 0), (50, 45))
    assert confusion_cells([[0, 10], [0, 0]]) == [[(0, 0), (10, 45)], [(0, 0), (0, 0)]]


def evaluation_of(seeds: Mapping[int, tuple[float, ...]]) -> Evaluation:
    """Make up the scores of seeds from their accuracies per class, of ten classes of one size."""
    scores = [CheckpointScore(seed, 100, sum(shares) / len(shares), 900, 0.1, shares) for seed, shares in seeds.items()]
    return Evaluation(min(seeds), tuple(scores), ())


def test_a_seed_that_lost_a_class_has_collapsed_and_one_that_is_a_little_worse_has_not() -> None:
    good, worse, lost = (0.9,) * 10, (0.8,) * 10, (*(0.95,) * 7, 0.4, 0.9, 0.1)
    seeds = dict.fromkeys(range(1, 20), good) | {20: worse, 21: lost}
    (collapse,) = collapsed_seeds(evaluation_of(seeds))
    assert collapse._replace(accuracy=round(collapse.accuracy, 6)) == (21, 0.805, 9, 0.1, 0.9)
    assert collapsed_seeds(evaluation_of(dict.fromkeys(range(3), (0.0, 0.3)))) == []
    near_half = {21: (*(0.9,) * 9, 0.44), 22: (*(0.9,) * 9, 0.46)}
    assert [each.seed for each in collapsed_seeds(evaluation_of(dict.fromkeys(range(1, 20), good) | near_half))] == [21]


def test_a_histogram_counts_every_seed_once_and_colours_those_that_collapsed() -> None:
    draw = np.random.default_rng(1)
    seeds = {seed: tuple(draw.uniform(0.9, 0.95, 10).tolist()) for seed in range(100)}
    seeds |= dict.fromkeys(range(100, 103), (*((0.9,) * 9), 0.0))
    evaluation = evaluation_of(seeds)
    collapsed = collapsed_seeds(evaluation)
    assert {each.seed for each in collapsed} == {100, 101, 102}
    histogram = layout_histogram(evaluation, collapsed)
    assert sum(count.number for count in histogram.counts) == 103
    unit = max(bar.height for bar in histogram.bars) / max(count.number for count in histogram.counts)
    assert round(sum(bar.height for bar in histogram.bars if bar.collapsed) / unit) == 3
    assert all(histogram.left <= bar.x and bar.x + bar.width <= histogram.right + 0.2 for bar in histogram.bars)
    assert all(histogram.top <= bar.y + 0.1 and bar.y + bar.height <= histogram.bottom + 0.1 for bar in histogram.bars)
    assert histogram.left <= histogram.own <= histogram.right


def made_up_page(sample: CachedDataset, hidden: int, steps: Sequence[int], dataset: str = "mnist") -> bytes:
    """Render the report of random weights."""
    images, labels = load_split(sample.test)
    models = [initial_parameters(seed, 784, hidden, 10, 2.0) for seed in range(len(steps) + 1)]
    scores = [CheckpointScore(1, step, 0.98, 900, 0.1, (0.98,) * 10) for step in (0, *steps)]
    confusion = [[997 if row == column else 3 for column in range(10)] for row in range(10)]
    mistakes = tuple(Mistake(index, 1, 2, 0.9, 0.1) for index in range(24))
    settings = {"minimum_gain": 0.001, "significance": 0.05, "class_floor": 0.96}
    manifest = manifest_of(run_id_of(1), dataset, (1_000,), {}).model_copy(
        update={
            "config": settings,
            "certificate": {"gradients": {}},
            "checkpoints": tuple(checkpoint(step, 0.98) for step in steps),
        }
    )
    snapshots = [Snapshot(model, score, confusion) for model, score in zip(models, scores, strict=True)]
    return report_html(manifest, Evaluation(1, tuple(scores[1:]), (), mistakes), snapshots, images, labels)


def test_a_page_with_ten_checkpoints_of_128_hidden_units_is_below_2_mb_and_equal_runs_have_equal_bytes(
    sample: CachedDataset,
) -> None:
    steps = range(6_000, 60_001, 6_000)
    page = made_up_page(sample, 128, steps)
    assert page.count(b'"step"') == 11
    assert len(page) < 2_000_000
    assert page == made_up_page(sample, 128, steps)


def test_a_large_network_has_its_last_model_alone_in_its_page_and_a_huge_one_no_script(
    sample: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max_snapshots(784, 30, 10) == 40
    assert max_snapshots(784, 500, 10) == 1
    assert max_snapshots(784, 16_384, 10) == 0
    monkeypatch.setattr("mnist_bp.report.script_data.MAX_WEIGHTS_SIZE", 150_000)
    large = made_up_page(sample, 30, [10, 20])
    assert large.count(b'"step"') == 1
    monkeypatch.setattr("mnist_bp.report.script_data.MAX_MODEL_SIZE", 100_000)
    huge = made_up_page(sample, 30, [10, 20])
    assert b"<script" not in huge
    assert b"JavaScript" not in huge


def test_only_the_page_of_a_dataset_of_digits_asks_one_to_draw_a_digit(sample: CachedDataset) -> None:
    digits, clothes = (made_up_page(sample, 5, [10], dataset).decode() for dataset in ("mnist", "fashion-mnist"))
    assert "<h2>Draw a digit</h2>" in digits
    assert '"drawn": true' in digits
    assert "<h2>Draw a digit" not in clothes
    assert "<h2>What the network reads</h2>" in clothes
    assert '"drawn": false' in clothes


def test_a_run_has_the_same_report_in_every_store(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path
) -> None:
    run = train_and_evaluate(sample_raw, sample, tmp_path / "data", steps=20)
    pages = [Path(run.publish(str(tmp_path / name)).artifacts, "report.html").read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]
