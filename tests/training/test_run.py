"""Runs: resumed to the same bits from whatever is intact; the lines they log and the progress they report."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError, DivergenceError
from mnist_bp.layout import checkpoint_path, run_directory
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.training import TrainedRun
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import write_bytes
from mnist_bp.training.evaluation import evaluate_run
from mnist_bp.training.journal import JOURNAL
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
    run, certificate, *checkpoints = [line for line in logged.messages if "ing the" not in line]
    assert run == f"train       run {RUN_ID} (if interrupted, resume with --resume {RUN_ID})"
    assert re.fullmatch(r"train       cpu engine certified( on \d{4}-\d\d-\d\d)?: .*", certificate)
    for line, point in zip(checkpoints, trained.checkpoints, strict=True):
        assert re.fullmatch(
            f"train       step {point.step:>9,}  {point.step / point.seconds:>9,.0f} steps/s"
            r"  training accuracy 0\.\d{4}",
            line,
        )
    assert {record.levelno for record in logged.records} == {logging.INFO}


def test_relu_with_the_weights_of_the_lab_is_a_warning_that_names_the_saturation(
    sample: CachedDataset, logged: pytest.LogCaptureFixture
) -> None:
    train_run(config_with(activation="relu", learning_rate=0.001), sample)
    (warning,) = [record.getMessage() for record in logged.records if record.levelno == logging.WARNING]
    assert "saturated at 0 or 1 from the first step" in warning
    assert warning.endswith("set initial to scaled")


def test_a_rate_that_diverges_names_its_step(sample: CachedDataset) -> None:
    with pytest.raises(DivergenceError, match=r"training diverged at step \d+: .* learning rate 1e\+30"):
        train_run(config_with(activation="relu", initial="scaled", learning_rate=1e30), sample)


@pytest.mark.parametrize(
    "change",
    [
        {"initial": "normal"},
        {"loss": "squared_error"},
        {"activation": "sigmoid"},
        {"schedule": "constant"},
        {"shift": 1},
    ],
    ids=str,
)
def test_a_run_is_not_resumed_by_another_recipe(change: dict[str, object], sample: CachedDataset) -> None:
    train_run(config_with(**TRAINED_WELL), sample, RUN_ID)
    ((name, value),) = change.items()
    with pytest.raises(ConfigError, match=f"cannot be resumed with --{name} {value} "):
        train_run(config_with(**{**TRAINED_WELL, **change}), sample, RUN_ID)


def test_an_engine_that_auto_did_not_choose_is_a_warning(
    sample: CachedDataset, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_bp.training.run.choose_engine", lambda *_: (CpuEngine(), "no GPU here"))
    train_run(config_with(engine="auto"), sample)
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


# --- resumed ------------------------------------------------------------------


class StopTraining(Exception):  # noqa: N818 - not an error
    """Raised by a test in the middle of a run."""


def train_until(step: int, config: RunConfig, data: CachedDataset) -> None:
    """Train a run until the given number of steps is taken, and interrupt it before their checkpoint is written."""

    def interrupt(completed: float, total: float | None, note: str) -> None:
        if completed >= step:
            raise StopTraining

    with pytest.raises(StopTraining):
        train_run(config, data, RUN_ID, on_progress=interrupt)


def digests(trained: TrainedRun) -> list[str]:
    return [point.file.sha256 for point in trained.checkpoints]


def journal_path() -> Path:
    return run_directory("data", RUN_ID) / JOURNAL


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


TRAINED_WELL: dict[str, object] = {
    "initial": "scaled",
    "loss": "cross_entropy",
    "activation": "relu",
    "bias_gradient": "sum",
    "schedule": "linear",
    "learning_rate": 0.02,
    "shift": 2,
    "batch_size": 32,  # an epoch of 125 steps: both checkpoints are within one
}


@pytest.mark.parametrize(
    "settings",
    [{}, {"engine": "reference"}, {"seeds": "3"}, TRAINED_WELL, {**TRAINED_WELL, "engine": "reference"}],
    ids=["cpu", "reference", "seeds", "trained well", "trained well, reference"],
)
@pytest.mark.parametrize("step", [100, 200, 300])
def test_an_interrupted_run_is_resumed_to_the_same_bits(
    step: int, settings: dict[str, object], sample: CachedDataset
) -> None:
    config = config_with(**settings)
    train_until(step, config, sample)
    trained = train_run(config, sample, RUN_ID)
    whole = train_run(config.model_copy(update={"data_dir": "whole"}), sample)
    assert digests(trained) == digests(whole)
    assert len(set(digests(trained))) == 3
    (resumed,) = trained.resumed
    assert resumed.step == step - 100
    assert resumed.sha256 == (digests(whole)[step // 100 - 2] if step > 100 else None)


def test_the_seconds_of_a_resumed_run_count_on_from_its_checkpoint(sample: CachedDataset) -> None:
    whole = train_run(config_with(), sample, RUN_ID)
    checkpoint_path(Path(whole.directory), 200).unlink()
    resumed = train_run(config_with(), sample, RUN_ID)
    assert resumed.checkpoints[0] == whole.checkpoints[0]
    seconds = [point.seconds for point in resumed.checkpoints]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] == resumed.seconds


def test_a_run_with_all_its_checkpoints_is_not_trained_again(
    sample: CachedDataset, logged: pytest.LogCaptureFixture
) -> None:
    first = train_run(config_with(), sample, RUN_ID)
    logged.clear()
    assert train_run(config_with(), sample, RUN_ID) == first
    first_line, second = logged.messages
    assert first_line.startswith("train       run ")
    assert second == "train       all 300 steps are trained already"


@pytest.mark.parametrize("damage", [flip_last_byte, tear, Path.unlink])
@pytest.mark.parametrize("step", [100, 200, 300])
def test_training_resumes_from_the_newest_checkpoint_up_to_which_all_are_intact(
    step: int, damage: Callable[[Path], None], sample: CachedDataset, logged: pytest.LogCaptureFixture
) -> None:
    whole = train_run(config_with(), sample, RUN_ID)
    path = checkpoint_path(Path(whole.directory), step)
    damage(path)
    logged.clear()
    resumed = train_run(config_with(), sample, RUN_ID)
    assert digests(resumed) == digests(whole)
    assert [point.step for point in resumed.resumed] == [step - 100]
    (warning,) = [record.getMessage() for record in logged.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"the checkpoint of step {step} cannot be used: ")
    assert str(path) in warning
    assert warning.endswith("; it and those after it are trained again")  # and no advice to run the pipeline again
    assert f"train       resuming at step {step - 100} of {whole.steps}" in logged.messages
    assert train_run(config_with(), sample, RUN_ID) == resumed


def test_a_resumption_cancels_the_checkpoints_after_the_step_it_starts_from(sample: CachedDataset) -> None:
    """They are intact, but another machine may have computed them in other bits than the ones now before them."""
    whole = train_run(config_with(), sample, RUN_ID)
    checkpoint_path(Path(whole.directory), 100).unlink()
    train_until(200, config_with(), sample)
    resumed = train_run(config_with(), sample, RUN_ID)
    assert [point.step for point in resumed.resumed] == [0, 100]
    assert digests(resumed) == digests(whole)


@pytest.mark.parametrize("line", [2, 3, 4])
def test_a_damaged_line_of_the_journal_and_the_lines_after_it_do_not_count(
    line: int, sample: CachedDataset, logged: pytest.LogCaptureFixture
) -> None:
    whole = train_run(config_with(), sample, RUN_ID)
    lines = journal_path().read_bytes().splitlines(keepends=True)
    for number in (line, 4):
        lines[number - 1] = lines[number - 1].replace(b'"step"', b'"stop"')
    journal_path().write_bytes(b"".join(lines))
    logged.clear()
    resumed = train_run(config_with(), sample, RUN_ID)
    assert digests(resumed) == digests(whole)
    assert [point.step for point in resumed.resumed] == [100 * (line - 2)]
    (warning,) = [record.getMessage() for record in logged.records if record.levelno == logging.WARNING]
    assert f"{journal_path()}, line {line}, is damaged: " in warning
    logged.clear()
    assert train_run(config_with(), sample, RUN_ID) == resumed
    assert [record.levelno for record in logged.records] == [logging.INFO] * 2  # the journal is intact again


def test_a_torn_line_does_not_hide_what_a_resumed_run_adds(sample: CachedDataset) -> None:
    train_until(200, config_with(), sample)
    journal_path().write_bytes(journal_path().read_bytes()[:-30])
    train_until(300, config_with(), sample)
    trained = train_run(config_with(), sample, RUN_ID)
    assert [point.step for point in trained.resumed] == [0, 200]


def test_a_journal_whose_first_line_is_damaged_is_refused(sample: CachedDataset) -> None:
    train_run(config_with(), sample, RUN_ID)
    journal_path().write_bytes(journal_path().read_bytes().replace(b'"seeds": [1]', b'"seeds": [2]'))
    with pytest.raises(ChecksumError, match=r"line 1, is damaged: .*; start a new run, without --resume"):
        train_run(config_with(), sample, RUN_ID)


def test_a_journal_without_its_first_line_is_refused(sample: CachedDataset) -> None:
    train_run(config_with(), sample, RUN_ID)
    journal_path().write_bytes(journal_path().read_bytes().split(b"\n", 1)[1])
    with pytest.raises(DataFormatError, match=r"line 1, is not the start of a run; start a new run, without --resume"):
        train_run(config_with(), sample, RUN_ID)


def test_a_journal_of_version_1_is_refused_in_a_line_that_says_what_to_do(sample: CachedDataset) -> None:
    path = journal_path()
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"kind": "start", "journal_version": 1, "seal": "0" * 64}) + "\n")
    with pytest.raises(DataFormatError) as caught:
        train_run(config_with(), sample, RUN_ID)
    assert str(caught.value).startswith(f"{path}, line 1, was written by an older mnist-bp in format 1, expected")
    assert "read it with that version" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_journal_of_a_later_version_is_refused_in_a_line_that_says_what_to_do(sample: CachedDataset) -> None:
    path = journal_path()
    write_bytes(path, checksummed_json.dumps({"kind": "start", "journal_version": 3, "new": 1}, indent=None))
    with pytest.raises(DataFormatError, match=r"line 1, has journal_version 3, expected 2: .*; resume the run with"):
        train_run(config_with(), sample, RUN_ID)


def test_a_run_is_not_resumed_with_other_settings(sample: CachedDataset) -> None:
    train_until(200, config_with(), sample)
    with pytest.raises(ConfigError, match=r"cannot be resumed with --learning-rate 0\.25 \(started with 0\.5\)"):
        train_run(config_with(learning_rate=0.25), sample, RUN_ID)


def test_a_run_is_not_resumed_on_other_data(sample: CachedDataset) -> None:
    train_until(200, config_with(), sample)
    with pytest.raises(ConfigError, match=rf"with the key {sample.key}, and cannot be resumed on .* with the key 0a1b"):
        train_run(config_with(), replace(sample, key="0a1b"), RUN_ID)


def test_a_run_is_not_resumed_with_another_engine(sample: CachedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    train_until(200, config_with(), sample)

    def refuse(*_: object) -> None:
        raise ConfigError("numba cannot be used")

    monkeypatch.setattr("mnist_bp.training.run.same_engine", refuse)
    with pytest.raises(ConfigError, match=r"was started with the cpu engine on cpu, .* Cause: numba cannot be used"):
        train_run(config_with(), sample, RUN_ID)


@pytest.mark.parametrize(
    ("rate", "kept"), [(3e38, "no checkpoint came before it"), (0.5, "up to step 100 are kept in /")]
)
def test_a_diverged_run_names_the_checkpoints_that_are_kept(
    rate: float, kept: str, sample: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rate < 1:
        finite = iter([True, False])
        monkeypatch.setattr("mnist_bp.training.loop.all_finite", lambda _: next(finite, False))
    with pytest.raises(DivergenceError, match=kept):
        train_run(config_with(learning_rate=rate, batch_size=200), sample, RUN_ID)
