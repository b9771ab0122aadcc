"""The presets, and the flag that selects one."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.config import RunConfig
from mnist_bp.presets import PRESETS, training_name


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_missing_values_and_a_flag_overrides_it(preset: str) -> None:
    config = parse(TrainCommand, ["--preset", preset]).settings
    assert config == PRESETS[preset]
    assert parse(TrainCommand, ["--preset", preset, "--steps", "77"]).settings == config.model_copy(
        update={"steps": 77}
    )


def test_the_flag_knows_every_preset() -> None:
    field = TrainCommand.model_fields["preset"]
    assert get_args(field.annotation) == tuple(PRESETS)
    assert [name for name in PRESETS if not re.search(rf"\b{name}( |,|\.)", str(field.description))] == []


def test_the_lab_preset_states_the_lab_and_is_the_default() -> None:
    assert PRESETS["lab-8-4"] == RunConfig()
    stated = {"steps", "batch_size", "learning_rate", "bias_gradient", "hidden", "seed", "checkpoint_every"}
    assert PRESETS["lab-8-4"].model_fields_set == stated


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "smoke"])
def test_a_run_of_a_preset_is_named_by_it_and_its_length_whatever_its_seed(preset: str) -> None:
    config = PRESETS[preset]
    record = config.model_copy(update={"seed": 20261123}).record
    assert training_name(record, config.steps) == f"{preset}, {config.steps:,} steps"
    assert training_name(record, 77, seeds=64) == f"{preset}, 77 steps, best of 64 seeds"


@pytest.mark.parametrize(
    ("preset", "change", "name"),
    [
        ("relu-128", {"shift": 0}, "relu-128 with shift 0"),
        ("relu-128", {"hidden": 129, "batch_size": 11}, "relu-128 with hidden 129, batch size 11"),
        ("lab-8-4", {"learning_rate": 0.25}, "lab-8-4 with learning rate 0.25"),
        ("lab-8-4", {"loss": "cross_entropy"}, "lab-8-4 with loss cross_entropy"),
    ],
)
def test_another_run_is_named_by_the_nearest_preset_and_what_differs(
    preset: str, change: dict[str, object], name: str
) -> None:
    config = PRESETS[preset].model_copy(update=change)
    assert training_name(config.record, 60_000) == f"{name}, 60,000 steps"
    assert training_name({"steps": 2_000}, 2_000) == "lab-8-4, 2,000 steps"  # of a manifest without the other settings


@pytest.mark.parametrize("preset", ["lab-8-4-scaled", "relu-30", "relu-128"])
@pytest.mark.parametrize("dataset", ["auto", "mnist", "fashion-mnist", "kmnist", "mnist-sample"])
def test_a_preset_decides_the_limits_of_the_gate_for_mnist_alone(preset: str, dataset: str) -> None:
    config = parse(TrainCommand, ["--preset", preset, "--dataset", dataset])
    limits = PRESETS[preset] if dataset in ("auto", "mnist") else RunConfig()
    assert (config.minimum_gain, config.class_floor) == (limits.minimum_gain, limits.class_floor)
    assert (config.initial, config.steps) == ("scaled", PRESETS[preset].steps)
    given = parse(TrainCommand, ["--preset", preset, "--dataset", dataset, "--class-floor", "0.5"])
    assert given.class_floor == 0.5
