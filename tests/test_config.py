"""The configuration, and the flags made from it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.config import RunConfig
from mnist_bp.model.recipe import Recipe, recipe_of
from mnist_bp.model.seeds import parse_seeds
from mnist_bp.model.sweep import SWEEPABLE

BAD_FLAGS = [
    ("--dataset", "cifar", "'mnist-sample'"),
    ("--preset", "lab-9", "'lab-8-4'"),
    ("--engine", "warp", "'reference'"),
    ("--bias-gradient", "max", "'mean' or 'sum'"),
    ("--steps", "0", "at least 1"),
    ("--steps", "-5", "at least 1"),
    ("--steps", "many", "an integer"),
    ("--steps", "1.5", "an integer"),
    ("--steps", "1000000000001", "at most 1000000000000"),
    ("--batch-size", "0", "at least 1"),
    ("--hidden", "0", "at least 1"),
    ("--hidden", "1000000", "at most 16384"),
    ("--checkpoint-every", "-1", "at least 1"),
    ("--learning-rate", "nan", "finite number"),
    ("--learning-rate", "inf", "finite number"),
    ("--learning-rate", "0", "more than 0"),
    ("--learning-rate", "-0.5", "more than 0"),
    ("--learning-rate", "1e39", "at most 3e+38"),
    ("--seed", "-1", "at least 0"),
    ("--seed", str(2**53), "less than"),
    ("--artifacts", "gs://bucket/prefix", "s3://bucket/prefix"),
    ("--artifacts", "s3:///prefix", "s3://bucket/prefix"),
    ("--artifacts", "", "a value that is not empty"),
    ("--data-dir", "", "a value that is not empty"),
    ("--track", "http://host:5000", "mlflow:http://HOST:PORT"),
    ("--track", "", "a value that is not empty"),
    ("--seeds", "", "a value that is not empty"),
    ("--resume", "", "a value that is not empty"),
]


@pytest.mark.parametrize(("flag", "value", "expected"), BAD_FLAGS)
def test_a_bad_value_gives_one_line_with_flag_value_and_expectation(
    flag: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(TrainCommand, [flag, value])
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"error: {flag} {value!r}: ")
    assert expected in line


@pytest.mark.parametrize("flags", [["--steps", "100000001"], ["--checkpoint-every", "1000", "--steps", "100000001"]])
def test_more_than_100_000_checkpoints_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(TrainCommand, ["--steps", "100000000"]).steps == 100_000_000
    with pytest.raises(SystemExit):
        parse(TrainCommand, flags)
    with pytest.raises(ValidationError, match="expected at least 1,001 of 100,000,001 steps"):
        RunConfig(steps=100_000_001)
    (line,) = capsys.readouterr().err.splitlines()
    assert "--checkpoint-every" in line
    assert "expected at least 1,001 of 100,000,001 steps, for at most 100,000 checkpoints" in line


def test_every_bad_value_has_a_separate_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TrainCommand, ["--steps", "0", "--hidden", "0"])
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["--steps", "--hidden"]


@pytest.mark.parametrize("arguments", [["--bogus", "1"], ["stray"], ["--steps"], ["--step", "5"]])
def test_unknown_flags_and_missing_values_are_bad_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(TrainCommand, arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert arguments[0] in line
    assert "--help" in line


def test_a_long_list_of_seeds_is_read_at_once() -> None:
    text = ",".join(map(str, range(0, 1_000_000, 2)))
    assert len(parse_seeds(text, 0)) == 500_000
    with pytest.raises(ValueError, match="every seed once, but 8 is repeated"):
        parse_seeds(f"{text},10,8", 0)


def test_a_secret_in_an_address_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TrainCommand, ["--artifacts", "s3://key:hunter2@bucket/prefix"])
    err = capsys.readouterr().err
    assert "AWS_*" in err
    assert "hunter2" not in err


def test_no_flags_give_the_lab() -> None:
    config = parse(TrainCommand, []).settings
    assert config == RunConfig()
    lab = {"batch_size": 10, "steps": 10_000, "learning_rate": 0.5, "hidden": 30, "seed": 1, "bias_gradient": "mean"}
    assert config.model_dump().items() >= {**lab, "dataset": "auto"}.items()


def test_every_field_has_a_flag_and_help_shows_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(TrainCommand, ["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in RunConfig.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert field.description is not None
        assert field.description in text
    assert "--json" in text
    assert "(default: 10000)" in text


def test_a_stray_environment_variable_is_not_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "5")
    monkeypatch.setenv("SEED", "5")
    assert parse(TrainCommand, []).settings == RunConfig()


def test_the_environment_sets_the_defaults_of_data_directory_and_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_BP_DATA_DIR", "/elsewhere/data")
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", "s3://bucket/prefix")
    config = parse(TrainCommand, []).settings
    assert (config.data_dir, config.artifacts) == ("/elsewhere/data", "s3://bucket/prefix")
    assert parse(TrainCommand, ["--data-dir", "here"]).settings.data_dir == "here"


def test_a_config_is_frozen_and_rejects_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        RunConfig().steps = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"stepz": 5})


SECOND_FORMS: list[dict[str, Any]] = [
    {"initial": "scaled"},
    {"loss": "cross_entropy"},
    {"activation": "relu"},
    {"schedule": "linear"},
    {"shift": 1},
]


def test_the_training_record_contains_neither_directories_nor_the_number_of_steps() -> None:
    assert RunConfig(steps=5, checkpoint_every=2).training_record == RunConfig().training_record
    assert RunConfig(data_dir="a", artifacts="b").training_record == RunConfig(data_dir="c").training_record
    for change in ({"hidden": 31}, {"batch_size": 11}, {"learning_rate": 0.4}, {"bias_gradient": "sum"}, *SECOND_FORMS):
        assert RunConfig.model_validate(change).training_record != RunConfig().training_record


def test_with_a_linear_schedule_the_number_of_steps_decides_the_weights() -> None:
    short, long = (RunConfig(schedule="linear", steps=steps, checkpoint_every=2).training_record for steps in (5, 10))
    assert short != long


def test_a_sweep_can_vary_every_setting_of_the_recipe_and_the_sizes() -> None:
    assert {*SWEEPABLE} == {field.name for field in fields(Recipe)} - {"steps"} | {"hidden", "batch_size"}


def test_the_training_record_of_the_lab_is_as_before_the_second_forms() -> None:
    """The files of its weights contain the record, so their digests stay."""
    assert RunConfig().training_record == {
        "batch_size": 10, "learning_rate": 0.5, "bias_gradient": "mean", "hidden": 30
    }  # fmt: skip


@pytest.mark.parametrize("change", SECOND_FORMS, ids=str)
def test_every_setting_of_a_recipe_reaches_it(change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    assert getattr(RunConfig.model_validate(change).recipe, name) == value
    assert recipe_of(RunConfig.model_validate(change).record) == RunConfig.model_validate(change).recipe
    assert recipe_of({}) == RunConfig().recipe


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"epochs": 3}, 18_000),
        ({"epochs": 3, "dataset": "mnist"}, 18_000),
        ({"epochs": 3, "dataset": "mnist-sample"}, 1_200),
        ({"epochs": 3, "batch_size": 64}, 3 * 937),  # the last partial batch is dropped
        ({"epochs": 3, "seeds": "2"}, 3 * 5_500),  # a twelfth is held out
        ({"epochs": 3, "steps": 18_000}, 18_000),
    ],
    ids=str,
)
def test_epochs_are_as_many_steps_as_pass_over_the_training_examples(given: dict[str, Any], steps: int) -> None:
    config = RunConfig.model_validate(given)
    assert config.steps == steps
    assert "epochs" not in config.record
    assert RunConfig.model_validate(config.record).steps == steps


def test_epochs_override_the_steps_of_a_preset() -> None:
    assert parse(TrainCommand, ["--preset", "relu-128", "--epochs", "2"]).settings.steps == 12_000


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--epochs", "3", "--steps", "500"], "--epochs and --steps: expected one of the two"),
        (["--epochs", "3", "--steps", "10000"], "--epochs and --steps: expected one of the two"),
        (["--epochs", "0"], "--epochs '0': expected at least 1"),
        (["--epochs", str(10**12)], "expected at most 1,000,000,000,000"),
        (["--epochs", "60000", "--checkpoint-every", "1"], "for at most 100,000 checkpoints"),
        (["--shift", "4"], "--shift '4': expected at most 3"),
        (["--activation", "tanh"], "--activation 'tanh': expected 'sigmoid' or 'relu'"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_is_one_line(
    flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(TrainCommand, flags)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize(
    ("seeds", "label"),
    [(None, "seed7"), ("7", "seeds7..13"), ("1..64", "seeds1..64"), ("3,5,8", "seeds3,5,8"), ("9,8", "seeds9,8")],
)
def test_a_label_names_the_seeds_that_are_trained_and_no_others(seeds: str | None, label: str) -> None:
    assert RunConfig(seed=7, seeds=seeds).seeds_label == label


@pytest.mark.parametrize("written", ["~/some data", " ~/some data ", "~/some data\r", "~/some data\n"])
def test_a_place_is_the_same_however_it_is_written(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in `--flag=~/data`, blanks and line ends, in flags and in variables."""
    monkeypatch.setenv("HOME", "/home/user")
    expected = ["/home/user/some data"] * 2
    command = parse(TrainCommand, [f"--data-dir={written}", f"--artifacts={written}"])
    assert [command.data_dir, command.artifacts] == expected
    config = RunConfig(data_dir=written, artifacts=written)
    assert [config.data_dir, config.artifacts] == expected
    for variable in ("MNIST_BP_DATA_DIR", "MNIST_BP_ARTIFACTS"):
        monkeypatch.setenv(variable, written)
    command = parse(TrainCommand, [])
    assert [command.data_dir, command.artifacts] == expected


@pytest.mark.parametrize("blanks", ["", " ", "\r"])
def test_a_variable_of_blanks_is_as_good_as_none(blanks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MNIST_BP_DATA_DIR", "MNIST_BP_ARTIFACTS"):
        monkeypatch.setenv(variable, blanks)
    command = parse(TrainCommand, [])
    assert [command.data_dir, command.artifacts] == ["data", "artifacts"]


def test_a_bucket_may_end_in_a_carriage_return() -> None:
    assert RunConfig(artifacts="s3://bucket/prefix\r").artifacts == "s3://bucket/prefix"


@pytest.mark.parametrize(
    ("flag", "value"), [("--data-dir", "  "), ("--artifacts", "\r"), ("--artifacts", "~nosuchuser/a")]
)
def test_a_place_of_blanks_or_of_an_unknown_user_is_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(TrainCommand, [flag, value])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flag}")


BAD_SWEEPS = [
    ("learning_rate", "is not a setting with values"),
    ("hidden=30,", "with no space after a comma"),
    ("=3", "'=3' is not a setting with values: expected settings such as learning_rate=0.1,0.3"),
    ("hidden=10, 20", "'hidden=10,' lacks a value next to a comma"),
    ("hidden = 10", "'hidden' is not a setting with values"),
    ("speed=1,2", "speed cannot be swept: expected learning_rate, hidden,"),
    ("hidden=30 hidden=60", "hidden is given twice"),
    ("learning_rate=0.1,0.10", "learning_rate=0.10 is repeated"),
    ("learning_rate=0.1,-1", "learning_rate=-1: expected greater than 0"),
    ("hidden=30,many", "hidden=many: expected a valid integer"),
    ("loss=l1", "loss=l1: expected 'squared_error' or 'cross_entropy'"),
    ("shift=0,9", "shift=9: expected less than or equal to 3"),
]


@pytest.mark.parametrize(("sweep", "expected"), BAD_SWEEPS)
def test_a_sweep_that_cannot_be_trained_gives_one_line_with_its_wrong_word(
    sweep: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(TrainCommand, ["--sweep", sweep])
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert line.startswith(f"error: --sweep {sweep!r}: ")
    assert expected in line


@pytest.mark.parametrize(
    "given",
    [
        ["--sweep", "hidden=10,20", "--hidden", "30"],
        ["--sweep", "batch-size=5,10 hidden=10,20", "--batch-size", "10"],
        ["--config", "swept.yaml", "--hidden", "30"],
    ],
)
def test_a_setting_that_is_both_given_and_swept_is_refused(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swept.yaml").write_text("sweep: hidden=10,20\nhidden: 30\n")
    with pytest.raises(SystemExit) as caught:
        parse(TrainCommand, given)
    flag = given[2]
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert line.startswith(f"error: {flag} and a sweep of {flag[2:].replace('-', '_')}: expected one of the two")


def test_a_sweep_replaces_what_a_preset_or_a_file_sets(tmp_path: Path) -> None:
    (tmp_path / "swept.yaml").write_text("sweep: learning_rate=0.1,0.2\nhidden: 30\nlearning_rate: 0.5\n")
    config = parse(TrainCommand, ["--preset", "relu-128", "--sweep", "hidden=10,20"])
    assert (config.hidden, config.sweep) == (128, "hidden=10,20")
    config = parse(TrainCommand, ["--config", str(tmp_path / "swept.yaml"), "--sweep", "hidden=10,20"])
    assert (config.learning_rate, config.sweep) == (0.5, "hidden=10,20")


def test_more_than_a_million_models_are_refused_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TrainCommand, ["--sweep", "hidden=1,2,3", "--seeds", "400000"])
    assert "1,200,000 models (3 settings x 400,000 seeds): expected at most 1,000,000" in capsys.readouterr().err


def test_a_sweep_decides_the_models_and_the_largest_sizes() -> None:
    config = RunConfig(sweep="hidden=30,60  batch-size=5", seeds="3", hidden=200)
    assert config.sweep == "hidden=30,60 batch_size=5"
    assert config.grid.combinations == [{"hidden": 30, "batch_size": 5}, {"hidden": 60, "batch_size": 5}]
    assert (config.grid.models, config.grid.largest.hidden, config.grid.largest.batch_size) == (6, 60, 5)
    assert config.held_out(60_000) == 5_000
