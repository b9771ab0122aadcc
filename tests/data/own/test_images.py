"""Folders of pictures become a cache: every image once, classes by name, test images chosen, bad pictures refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_bp.data.download import fetch
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.errors import DataFormatError, StoreError
from mnist_bp.results.dataset import SplitRule
from tests.support.drawings import encoded, png
from tests.support.own_images import (
    DIGITS,
    digits_8x8,
    images_by_class,
    prepare,
    rows_of,
    some_images,
    write_folders,
    write_idx,
)

LABELS = ["cat", "dog", "cow"] * 8


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """24 pictures of 8 x 8 pixels of three classes."""
    return write_folders(tmp_path / "Animals", some_images(24), LABELS)


def refusal(place: Path, **settings: Any) -> str:
    """Return the line that a place is refused with; nothing is left in the cache."""
    with pytest.raises(DataFormatError) as caught:
        prepare(f"images:{place}", **settings)
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("data/parquet/*/manifest.json"))
    return str(caught.value)


def test_every_picture_is_in_the_cache_once_under_the_name_of_its_folder(animals: Path) -> None:
    data = prepare(f"images:{animals}")
    assert (data.name, data.cache, data.skipped) == ("animals", "miss", 0)
    assert (data.shape.height, data.shape.width, data.shape.class_names) == (8, 8, ("cat", "cow", "dog"))
    expected = {(label, image.tobytes()) for image, label in zip(some_images(24), LABELS, strict=True)}
    assert images_by_class(data) == expected
    assert (data.train_examples, data.test_examples) == (21, 3)


def test_folders_that_are_numbers_are_classes_in_the_order_of_their_values(tmp_path: Path) -> None:
    data = prepare(f"images:{write_folders(tmp_path / 'n', some_images(33), [*range(11)] * 3)}")
    assert data.shape.class_names == tuple(map(str, range(11)))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits as PNG files."""
    images, labels = digits_8x8()
    return write_folders(tmp_path_factory.mktemp("own") / "digits", images, labels.tolist())


def test_test_images_are_a_share_of_each_class_chosen_by_a_recorded_seed(digits: Path) -> None:
    labels = digits_8x8()[1]
    data = prepare(f"images:{digits}")
    assert data.test_split == SplitRule(one_in=7, seed=1)
    assert data.train_examples + data.test_examples == DIGITS
    _, chosen = rows_of(data)["test"]
    assert np.bincount(chosen).tolist() == (np.bincount(labels) // 7).tolist()
    _, train = rows_of(data)["train"]  # the last ones are held out for validation
    assert set(train[-len(train) // 12 :].tolist()) == set(range(10))


def test_the_same_pictures_elsewhere_give_the_same_files(animals: Path) -> None:
    first, again = (prepare(f"images:{animals}", data_dir) for data_dir in ("data", "elsewhere"))
    assert (again.cache, again.train.sha256, again.test.sha256) == ("miss", first.train.sha256, first.test.sha256)


def test_a_given_test_split_stays_one(tmp_path: Path) -> None:
    images, labels = some_images(24), LABELS
    write_folders(tmp_path / "own" / "training", images[:12], labels[:12])
    write_folders(tmp_path / "own" / "test", images[12:], labels[12:])
    data = prepare(f"images:{tmp_path / 'own'}")
    assert data.test_split is None
    assert {image.tobytes() for image in rows_of(data)["test"][0]} == {image.tobytes() for image in images[12:]}


def test_colours_jpeg_and_16_bits_become_grey_and_other_sizes_the_one_that_is_given(animals: Path) -> None:
    (animals / "cat" / "red.png").write_bytes(png(np.full((16, 16, 3), (255, 0, 0), np.uint8)))
    (animals / "cow" / "grey.JPG").write_bytes(encoded(Image.new("L", (16, 16), 100), "JPEG"))
    (animals / "dog" / "deep.png").write_bytes(encoded(Image.new("I;16", (8, 8), 0xFFFF), "PNG"))
    found = images_by_class(prepare(f"images:{animals}", image_size="8x8"))
    assert len(found) == 27
    assert {("cat", bytes([76]) * 64), ("cow", bytes([100]) * 64), ("dog", bytes([255]) * 64)} <= found


def test_an_unchanged_place_is_a_hit_and_a_changed_picture_or_setting_another_cache(animals: Path) -> None:
    first = prepare(f"images:{animals}")
    assert prepare(f"images:{animals}") == type(first)(**{**vars(first), "cache": "hit"})
    bigger = prepare(f"images:{animals}", image_size="16x16")
    assert (bigger.cache, bigger.shape.inputs) == ("miss", 256)
    next(animals.rglob("*.png")).write_bytes(png(np.zeros((8, 8), np.uint8)))
    changed = prepare(f"images:{animals}")
    assert (changed.cache, len({first.key, bigger.key, changed.key})) == ("miss", 3)


def test_pictures_that_cannot_be_read_are_all_named_and_refuse_the_run_or_are_counted(
    animals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"cat/broken.png": png(some_images(1)[0])[:60], "cow/notes.txt": b"a cow", "dog/empty.jpg": b""}
    (animals / "dog" / "folder").mkdir()
    os.mkfifo(animals / "cat" / "pipe.png")
    bad["dog/bomb.png"] = png(np.zeros((8_001, 8_000), np.uint8))
    for name, content in bad.items():
        (animals / name).write_bytes(content)
    message = refusal(animals)
    assert message.startswith(f"6 of the 30 pictures in {animals} cannot be read: ")
    assert all(name in message for name in (*bad, "dog/folder: Is a directory", "pipe.png is a named pipe"))
    assert "--skip-unreadable" in message
    with caplog.at_level(logging.WARNING):
        data = prepare(f"images:{animals}", skip_unreadable=True)
    assert (data.skipped, data.train_examples + data.test_examples) == (6, 24)
    assert "cat/broken.png" in caplog.text
    assert prepare(f"images:{animals}", skip_unreadable=True).skipped == 6


def test_a_class_is_not_left_out_because_none_of_its_pictures_can_be_read(animals: Path) -> None:
    for path in (animals / "cow").iterdir():
        path.write_bytes(b"a cow")
    with pytest.raises(DataFormatError, match=f"{animals} has no picture of the class cow that can be read; replace"):
        prepare(f"images:{animals}", skip_unreadable=True)


def test_pictures_of_several_sizes_are_counted_and_one_size_is_asked_for(animals: Path) -> None:
    (animals / "dog" / "wide.png").write_bytes(png(np.zeros((8, 12), np.uint8)))
    message = refusal(animals)
    assert "pictures of 2 sizes: 8 x 8 (24, such as cat/00000.png), 12 x 8 (1, such as dog/wide.png)" in message
    assert "--image-size 8x8" in message


def test_large_pictures_are_refused_with_the_flag_that_scales_them(tmp_path: Path) -> None:
    place = write_folders(tmp_path / "large", np.zeros((2, 8, 1_025), np.uint8), ["a", "b"])
    assert "1,025 x 8 pixels" in refusal(place)
    assert "--image-size" in refusal(place)


@pytest.mark.parametrize(
    ("folders", "loose", "expected"),
    [
        ({"only": 3}, None, "has one class, expected 2 to 256"),
        ({"a": 3, "b": 0}, None, "b is empty: expected pictures of the class b"),
        ({"a": 3, "b": 1}, None, "class b has 1 image: expected at least 2"),
        ({"a": 3, "b": 2}, "c.png", "c.png is in no class's folder"),
        ({}, None, "has no folders; expected a folder for each class"),
        ({"a": 2, "b": 2, "\x1b[31m": 2}, None, "printable characters"),
    ],
)
def test_folders_of_another_layout_are_refused(
    folders: dict[str, int], loose: str | None, expected: str, tmp_path: Path
) -> None:
    place = tmp_path / "own"
    for name, count in folders.items():
        (place / name).mkdir(parents=True)
        write_folders(place, some_images(count), [name] * count)
    place.mkdir(exist_ok=True)
    if loose:
        (place / loose).write_bytes(png(some_images(1)[0]))
    assert expected in refusal(place)


@pytest.mark.parametrize(("found", "missing"), [("train", "test"), ("test", "train")])
def test_one_split_without_the_other_is_named(found: str, missing: str, tmp_path: Path) -> None:
    write_folders(tmp_path / "own" / found, some_images(4), ["a", "b"] * 2)
    write_folders(tmp_path / "own" / "validation", some_images(4), ["a", "b"] * 2)
    message = refusal(tmp_path / "own")
    assert f"own has {found}, and no {missing} next to it: add {missing}, with a folder for each class" in message
    assert f"or give images:{tmp_path / 'own' / found} to have test images chosen" in message


def test_a_class_of_folders_alone_is_named_and_a_class_may_have_the_name_train(tmp_path: Path) -> None:
    write_folders(tmp_path / "own", some_images(4), ["plane", "train"] * 2)
    data = prepare(f"images:{tmp_path / 'own'}", data_dir="elsewhere")
    assert data.shape.class_names == ("plane", "train")
    write_folders(tmp_path / "own" / "ship", some_images(2), ["sail", "steam"])
    assert "ship has folders, such as sail, and no pictures: expected pictures of the class ship" in refusal(
        tmp_path / "own"
    )


def test_a_test_image_of_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path / "own" / "train", some_images(4), ["a", "b"] * 2)
    write_folders(tmp_path / "own" / "test", some_images(2), ["a", "c"])
    assert "the label 'c', which is outside the 2 classes of the training images" in refusal(tmp_path / "own")
    write_folders(tmp_path / "both" / "train", some_images(4), ["a", "b"] * 2)
    write_folders(tmp_path / "both" / "test", some_images(2), ["a", "a"])
    assert "class b has no test images" in refusal(tmp_path / "both")


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*nowhere: No such file"):
        prepare(f"images:{tmp_path / 'nowhere'}")


def test_a_place_that_changes_after_it_was_hashed_makes_no_cache(animals: Path) -> None:
    raw = fetch(f"images:{animals}", Path("data"), last_attempt=True)
    (animals / "dog" / "late.png").write_bytes(png(some_images(1)[0]))
    with pytest.raises(DataFormatError, match="Animals was changed while it was read"):
        preprocess_dataset(raw, Path("data"))


def test_the_same_images_as_files_of_another_kind_are_the_same_by_content(digits: Path, tmp_path: Path) -> None:
    folders = prepare(f"images:{digits}")
    idx = prepare(f"idx:{write_idx(tmp_path, 'train', *digits_8x8())}")
    assert images_by_class(folders) == images_by_class(idx)
    assert (idx.test_split, idx.test_examples) == (folders.test_split, folders.test_examples)
