"""Runs: what training and evaluation log, and the progress they report."""

from __future__ import annotations

import logging
import re

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.results import CachedDataset
from mnist_bp.training.evaluation import evaluate_run
from mnist_bp.training.run import train_run

RUN_ID = "20261125T072013Z-1d4ef8bd"


def config_with(**settings: object) -> RunConfig:
    common = {"dataset": "mnist-sample", "steps": 300, "checkpoint_every": 100, "engine": "cpu", "data_dir": "data"}
    return RunConfig.model_validate({**common, **settings})


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "mnist_bp")
    return caplog


def test_training_logs_the_run_the_certificate_and_every_checkpoint(
    sample: CachedDataset, logged: pytest.LogCaptureFixture
) -> None:
    trained = train_run(config_with(), sample, RUN_ID)
    run, certificate, *checkpoints = logged.messages
    assert run == f"train       run {RUN_ID} (if interrupted, resume with --resume {RUN_ID})"
    assert re.fullmatch("train       cpu engine certified: .*", certificate)
    assert checkpoints == [
        f"train       step {point.step:>9,}  {point.step / point.seconds:>9,.0f} steps/s"
        for point in trained.checkpoints
    ]
    assert {record.levelno for record in logged.records} == {logging.INFO}


def test_an_engine_that_auto_did_not_choose_is_a_warning(
    sample: CachedDataset, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_bp.training.run.choose_engine", lambda *_: (CpuEngine(), "no GPU here"))
    assert train_run(config_with(engine="auto"), sample).notice == "no GPU here"
    (warning,) = [record for record in logged.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == "no GPU here"


def test_training_progress_counts_the_steps_of_a_model_and_notes_the_speed_of_all(sample: CachedDataset) -> None:
    progress: list[tuple[float, float | None, str]] = []
    trained = train_run(config_with(seeds="1..3"), sample, on_progress=lambda *now: progress.append(now))
    assert [now[:2] for now in progress] == [(100, 300), (200, 300), (300, 300)]
    assert progress[-1][2] == f"{trained.steps_per_second:,.0f} steps/s"


@pytest.mark.parametrize(
    ("seeds", "scores"),
    [
        ("1", r"accuracy 0\.\d{4}  lab \d+/1,000  loss 0\.\d{4}"),
        ("3", r"accuracy 0\.\d{4} \(median\), 0\.\d+ to 0\.\d+"),
    ],
)
def test_evaluation_logs_and_counts_every_checkpoint(
    seeds: str, scores: str, sample: CachedDataset, logged: pytest.LogCaptureFixture
) -> None:
    trained = train_run(config_with(seeds=seeds), sample)
    logged.clear()
    progress: list[tuple[float, float | None, str]] = []
    evaluate_run(sample, trained, on_progress=lambda *now: progress.append(now))
    assert progress == [(1, 3, ""), (2, 3, ""), (3, 3, "")]
    for step, message in zip((100, 200, 300), logged.messages, strict=True):
        assert re.fullmatch(rf"evaluate    step {step:>9}  {scores}", message)
