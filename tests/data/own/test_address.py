"""Own images are named by addresses; the name under which their runs are kept is a part of keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from mnist_bp.config import RunConfig
from mnist_bp.data.own.address import check_options, kept_name
from mnist_bp.errors import ConfigError
from mnist_bp.preflight import preflight


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("images:/home/ada/My Digits", "my-digits"),
        ("images:Zoo/Animals/", "animals"),
        ("images: ~/zoo ", "zoo"),
        ("idx:/data/mnist", "own-mnist"),
        ("idx:/data/auto", "own-auto"),
        ("idx:emnist/emnist-letters", "emnist-letters"),
        ("parquet:a/Pets.v2.parquet", "pets-v2"),
        ("parquet:s3://bucket/images/zoo", "zoo"),
        ("parquet:s3://bucket", "bucket"),
        ("images:/数字", "images"),
        (f"images:/{'a' * 80}", "a" * 64),
        ("kmnist", "kmnist"),
        ("auto", "auto"),
    ],
)
def test_the_name_of_a_dataset_is_the_last_part_of_its_address(address: str, name: str) -> None:
    assert RunConfig(dataset=address).dataset_name == name
    assert name == "auto" or kept_name(address) == kept_name(name) == name
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("cifar", "images:PATH"),
        ("images:", "images:PATH"),
        ("images: ", "images:PATH"),
        ("http://host/images", "images:PATH"),
        ("images:s3://bucket/images", "images: expected a path"),
        ("parquet:file:///images", "parquet: expected a path or s3://bucket/prefix"),
        ("parquet:https://host/images", "expected a directory or s3://bucket/prefix"),
        ("parquet:s3://key:hunter2@bucket/images", "AWS_*"),
        ("images:a\nb", "without control characters"),
    ],
)
def test_another_address_is_refused_without_repeating_a_secret(address: str, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig(dataset=address)
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_recorded_address_means_the_same_from_any_directory() -> None:
    assert RunConfig(dataset="images:zoo").record["dataset"] == f"images:{Path.cwd() / 'zoo'}"
    assert RunConfig(dataset="parquet:s3://b/zoo").record["dataset"] == "parquet:s3://b/zoo"
    assert RunConfig(dataset="kmnist").record["dataset"] == "kmnist"


def test_a_place_has_one_address_by_whatever_path_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "data" / "zoo"
    place.mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(place)
    for path in (".", "../zoo", "../../link/zoo", "../../link/../data/zoo/", f"{tmp_path}/link/zoo"):
        config = RunConfig(dataset=f"images:{path}", artifacts=path)
        assert config.record["dataset"] == f"images:{place}"
        assert config.record["artifacts"] == str(place)
        assert config.dataset_name == "zoo"


def test_a_link_to_a_dataset_names_it(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "zoo").symlink_to("v2")
    assert RunConfig(dataset=f"images:{tmp_path / 'zoo'}").dataset_name == "zoo"


@pytest.mark.parametrize("size", ["28", "28x", "0x28", "28x1025", "28 x 28", "-1x5", "9999999x1"])
def test_a_size_of_another_form_is_refused(size: str) -> None:
    with pytest.raises(ValidationError, match="expected WIDTHxHEIGHT in pixels, such as 28x28, with sides of at most"):
        RunConfig(dataset="images:zoo", image_size=size)


def test_epochs_of_own_images_are_steps_once_their_number_is_known() -> None:
    given = RunConfig(dataset="images:zoo", epochs=3)
    for config in (given, RunConfig.model_validate(given.model_dump()), given.settings):  # as a deployment passes it
        resolved = config.for_examples(105)
        assert (resolved.steps, resolved.epochs) == (30, None)
        assert resolved.record == RunConfig(dataset="images:zoo", steps=30).record
        assert resolved.for_examples(1) is resolved


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epochs": 3, "steps": 31}, "epochs 3 are 30 steps, not 31: expected one of the two"),
        ({"epochs": 10**12}, "expected at most 1,000,000,000,000"),
        ({"epochs": 10**6, "checkpoint_every": 1}, "checkpoint_every 1: expected at least 100 of 10,000,000 steps"),
    ],
)
def test_epochs_of_own_images_that_cannot_be_trained_are_refused(given: dict[str, int], expected: str) -> None:
    config = RunConfig.model_validate({"dataset": "images:zoo", **given})
    with pytest.raises(ConfigError, match=expected):
        config.for_examples(105)


@pytest.mark.parametrize("option", [{"image_size": "8x8"}, {"skip_unreadable": True}])
def test_an_option_of_own_images_is_refused_for_another_dataset(option: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="with dataset mnist-sample: expected images of your own"):
        preflight(RunConfig.model_validate({"dataset": "mnist-sample", **option}))


@pytest.mark.parametrize("dataset", ["idx:emnist", "parquet:s3://bucket/images"])
def test_leaving_out_pictures_is_refused_for_files_that_are_no_pictures(dataset: str) -> None:
    with pytest.raises(ConfigError, match=r"--skip-unreadable with dataset .*: expected images:PATH"):
        check_options(dataset, {"skip_unreadable": True})
    check_options("images:zoo", {"skip_unreadable": True})
    check_options(dataset, {"image_size": "8x8"})
