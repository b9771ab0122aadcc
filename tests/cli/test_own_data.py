"""`train --dataset images:PATH` from pictures to a champion; what cannot work is refused before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_bp.cli.main import main
from mnist_bp.cli.settings_file import settings_of
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.storage.local import LocalStore
from tests.support.drawings import png
from tests.support.own_images import some_images, write_folders, write_idx, write_table

SHORT = ["--engine", "reference", "--steps", "20", "--checkpoint-every", "20"]
LABELS = ["cat", "dog", "cow"] * 8

pytestmark = pytest.mark.usefixtures("own_signals")


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command, and return the object that it prints."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_own_pictures_are_trained_on_compared_and_trained_on_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_folders(tmp_path / "Zoo", some_images(24), LABELS)
    (place / "cow" / "broken.png").write_bytes(b"no picture")
    own = ["--dataset", "images:Zoo", "--skip-unreadable"]
    first = output(capsys, "train", *own, *SHORT)
    assert (first["dataset"], first["promotion"]["outcome"]) == ("zoo", "promoted")
    manifest, _ = read_manifest(LocalStore(Path("artifacts")), first["run_id"])
    assert manifest.config["dataset"] == settings_of(manifest)["dataset"] == f"images:{place}"
    assert manifest.dataset.shape.class_names == ("cat", "cow", "dog")
    assert (manifest.dataset.skipped, manifest.dataset.train_examples, manifest.dataset.test_examples) == (1, 21, 3)
    assert manifest.dataset.sources["Zoo"].size > 0

    assert main(["show", first["run_id"], "--config"]) == 0
    Path("zoo.yaml").write_text(capsys.readouterr().out)
    again = output(capsys, "train", "--config", "zoo.yaml")
    repeated, _ = read_manifest(LocalStore(Path("artifacts")), again["run_id"])
    assert repeated.checkpoints[-1].file == manifest.checkpoints[-1].file
    assert repeated.files[manifest.checkpoints[-1].file].sha256 == manifest.files[manifest.checkpoints[-1].file].sha256
    assert output(capsys, "compare", first["run_id"], again["run_id"], "--engine", "reference")["dataset"] == "zoo"

    (place / "cow" / "new.png").write_bytes(png(np.zeros((8, 8), np.uint8)))
    more = output(capsys, "train", *own, *SHORT, "--seed", "2")
    assert "which have changed since the champion's run" in more["promotion"]["reason"]
    listed = output(capsys, "runs", "--dataset", "images:elsewhere/zoo")["runs"]
    assert {run["run_id"] for run in listed} == {first["run_id"], again["run_id"], more["run_id"]}
    assert main(["verify", "--all"]) == 0


def test_a_run_is_resumed_on_the_images_that_it_was_started_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_idx(tmp_path / "zoo", "train", some_images(24), np.array([0, 1, 2] * 8, np.uint8))
    run_id = output(capsys, "train", "--dataset", "idx:zoo", *SHORT)["run_id"]
    for name in ("manifest.json", "promotion.json"):
        (tmp_path / "artifacts" / "runs" / run_id / name).unlink()
    content = (place / "train-images-idx3-ubyte").read_bytes()
    (place / "train-images-idx3-ubyte").write_bytes(content[:-1] + bytes([255 - content[-1]]))
    assert main(["train", "--resume", run_id]) == 2
    assert f"which idx:{place} has since its files were changed; restore them" in capsys.readouterr().err
    (place / "train-images-idx3-ubyte").write_bytes(content)
    assert output(capsys, "train", "--resume", run_id)["run_id"] == run_id


def test_epochs_of_own_images_are_resumed_by_the_same_number_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path / "zoo", some_images(24), LABELS)
    own = ["--dataset", "images:zoo", "--engine", "reference"]
    run_id = output(capsys, "train", *own, "--batch-size", "5", "--epochs", "3")["run_id"]
    manifest, _ = read_manifest(LocalStore(Path("artifacts")), run_id)
    assert manifest.config["steps"] == manifest.final.step == 3 * (21 // 5)
    assert "epochs" not in manifest.config
    for name in ("manifest.json", "promotion.json"):
        (tmp_path / "artifacts" / "runs" / run_id / name).unlink()
    assert main(["train", *own, "--epochs", "4", "--resume", run_id]) == 2
    assert "error: epochs 4 are 16 steps, not 12: expected one of the two" in capsys.readouterr().err
    assert output(capsys, "train", *own, "--epochs", "3", "--resume", run_id)["run_id"] == run_id


@pytest.mark.parametrize("several", [[], ["--sweep", "hidden=4,5"]], ids=str)
def test_fewer_than_1000_test_images_of_mnists_shape_have_no_figure_of_the_lab(
    several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = np.arange(150, dtype=np.uint8) % 10
    write_idx(tmp_path / "few", "train", some_images(150, 28, 28), digits)
    assert main(["train", "--dataset", "idx:few", *SHORT, *several]) == 0
    assert not [line for line in "\n".join(capsys.readouterr()).splitlines() if "lab " in line]
    (run,) = output(capsys, "runs")["runs"]
    manifest, _ = read_manifest(LocalStore(Path("artifacts")), run["run_id"])
    assert manifest.final.lab_correct_of_1000 is None
    assert "as in the lab" not in Path(f"artifacts/runs/{run['run_id']}/report.html").read_text()


def images(path: Path) -> str:
    return f"images:{write_folders(path / 'own', some_images(24), LABELS)}"


def with_a_broken_picture(path: Path) -> str:
    (Path(images(path).removeprefix("images:")) / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return f"images:{path / 'own'}"


def tables(path: Path) -> str:
    return f"parquet:{write_table(path / 'own.parquet', some_images(6), [0, 1, None] * 2)}"


@pytest.mark.parametrize(
    ("dataset", "flags", "code", "expected"),
    [
        (images, ["--batch-size", "22"], 2, "batch size 22: expected at most the 21 training examples"),
        (images, ["--seeds", "2", "--validation-examples", "20"], 2, "20 validation examples: expected at most 11"),
        (
            images,
            ["--image-size", "1024x1024", "--hidden", "16384"],
            2,
            "one model needs about 343.6 GB of memory, and",
        ),
        (images, ["--shift", "3", "--image-size", "6x8"], 2, "shift 3: expected at most 2 for images of 6 x 8 pixels"),
        (with_a_broken_picture, [], 1, "1 of the 25 pictures in "),
        (tables, [], 1, "own.parquet has 2 nulls in the column label, expected none"),
        (
            lambda path: f"idx:{path}",
            [],
            1,
            "has no training images and no training labels; expected files whose names say",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_before_anything_is_trained(
    dataset: Callable[[Path], str],
    flags: list[str],
    code: int,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--dataset", dataset(tmp_path), *flags]) == code
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert expected in line
    assert not list(tmp_path.glob("data/runs/*"))
    assert not list(tmp_path.glob("artifacts/runs/*"))
