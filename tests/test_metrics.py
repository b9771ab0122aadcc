"""Gauges for Prometheus, read by its own parser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_bp.metrics import export_metrics
from tests.conftest import SMALL
from tests.support.prometheus import gauges_of
from tests.support.waiting import HANG_S


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the metrics, which the environment names."""
    monkeypatch.setenv("MNIST_BP_METRICS", f"{tmp_path} ")
    return tmp_path


def test_the_gauges_of_every_dataset_are_kept_with_their_values(directory: Path) -> None:
    begin = time.time()
    export_metrics("mnist", accuracy=0.9251, promoted=True, published_bytes=1_194_722)
    between = time.time()
    export_metrics("kmnist", accuracy=0.75, promoted=False, published_bytes=7)
    gauges = gauges_of(directory)
    first, second = (gauges.pop(("mnist_bp_finished_timestamp_seconds", name)) for name in ("mnist", "kmnist"))
    assert begin <= first <= between <= second <= time.time()
    assert {name: value for name, value in gauges.items() if name[0] != "mnist_bp_stage_seconds"} == {
        ("mnist_bp_accuracy", "mnist"): 0.9251,
        ("mnist_bp_accuracy", "kmnist"): 0.75,
        ("mnist_bp_promoted", "mnist"): 1.0,
        ("mnist_bp_promoted", "kmnist"): 0.0,
        ("mnist_bp_published_bytes", "mnist"): 1_194_722.0,
        ("mnist_bp_published_bytes", "kmnist"): 7.0,
    }


def test_the_next_run_replaces_the_gauges_of_its_dataset_and_leaves_no_other_file(directory: Path) -> None:
    for accuracy in (0.9, 0.5):
        export_metrics("mnist", accuracy=accuracy, promoted=False, published_bytes=1)
    assert [path.name for path in directory.iterdir()] == ["mnist_bp_mnist.prom"]
    assert gauges_of(directory)["mnist_bp_accuracy", "mnist"] == 0.5


def test_another_user_can_read_the_file(directory: Path) -> None:
    """node_exporter runs as another user."""
    before = os.umask(0o022)
    try:
        export_metrics("mnist", accuracy=0.9, promoted=False, published_bytes=1)
    finally:
        os.umask(before)
    assert (directory / "mnist_bp_mnist.prom").stat().st_mode & 0o777 == 0o644


def run_with_metrics(directory: Path) -> tuple[dict[str, object], list[str]]:
    """Run the pipeline, and return its summary and its log lines."""
    ended = subprocess.run(
        [sys.executable, "-m", "mnist_bp", "train", *SMALL, "--json"],
        env={**os.environ, "MNIST_BP_METRICS": str(directory)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    return json.loads(ended.stdout), ended.stderr.splitlines()


@pytest.mark.usefixtures("warm_caches")
def test_a_run_without_prefect_writes_its_figures_and_the_seconds_of_each_stage(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    begin = time.time()
    summary, _ = run_with_metrics(tmp_path / "metrics")
    gauges = gauges_of(tmp_path / "metrics")
    stages = {name[2]: gauges.pop(name) for name in list(gauges) if name[0] == "mnist_bp_stage_seconds"}
    finished = gauges.pop(("mnist_bp_finished_timestamp_seconds", "mnist-sample"))
    size = sum(path.stat().st_size for path in Path(str(summary["artifacts"])).rglob("*") if path.is_file())
    assert gauges == {
        ("mnist_bp_accuracy", "mnist-sample"): summary["accuracy"],
        ("mnist_bp_promoted", "mnist-sample"): 1.0,
        ("mnist_bp_published_bytes", "mnist-sample"): size - promotion_size(summary),
    }
    assert begin < finished < time.time()
    assert list(stages) == ["download", "preprocess", "train", "evaluate", "upload", "promote"]
    assert 0 < sum(stages.values()) < finished - begin
    assert stages["train"] > float(str(summary["train_seconds"]))


def promotion_size(summary: dict[str, object]) -> int:
    """Return the size of the record that is written after the publication."""
    return (Path(str(summary["artifacts"])) / "promotion.json").stat().st_size


@pytest.mark.usefixtures("warm_caches")
def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    summary, lines = run_with_metrics(tmp_path / "missing")
    assert (Path(str(summary["artifacts"])) / "promotion.json").exists()
    assert [line for line in lines if "metrics" in line] == [
        "the run is published, but its metrics were not written: "
        f"{tmp_path / 'missing'} ($MNIST_BP_METRICS): No such file or directory"
    ]
    assert lines[-2].startswith("promote ")
