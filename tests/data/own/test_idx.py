"""IDX files under any usual name become the cache; MNIST as own files is MNIST bit for bit; bad files are refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_bp.data.sample import encode_idx
from mnist_bp.errors import DataFormatError
from mnist_bp.results.dataset import CachedDataset, RawDataset
from tests.support.own_images import images_by_class, prepare, rows_of, some_images, write_idx

LABELS = np.array([0, 1, 2] * 6, np.uint8)


def write_four(place: Path) -> Path:
    """Write 18 training and 18 test images."""
    write_idx(place, "train", some_images(18), LABELS)
    return write_idx(place, "t10k", some_images(18)[::-1], LABELS)


def refusal(address: str, **settings: Any) -> str:
    """Return the line that an address is refused with."""
    with pytest.raises(DataFormatError) as caught:
        prepare(f"idx:{address}", **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mnist_as_own_idx_files_gives_the_rows_of_mnist(mnist_raw: RawDataset, mnist: CachedDataset) -> None:
    own = prepare(f"idx:{Path(mnist_raw.files[0].path).parent}")
    assert (own.name, own.shape, own.test_split) == ("own-mnist", mnist.shape, None)
    for split, arrays in rows_of(mnist).items():
        assert all(map(np.array_equal, arrays, rows_of(own)[split]))


@pytest.mark.parametrize(
    "names",
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "test-images.idx3-ubyte", "test-labels.idx1-ubyte"),
        ("My_Train_Images.gz", "my_train_labels.gz", "my_test_images", "my_Test_Label.idx.gz"),
    ],
)
def test_files_are_found_by_what_their_names_say_gzipped_or_not(names: tuple[str, ...], tmp_path: Path) -> None:
    expected = prepare(f"idx:{write_four(tmp_path / 'expected')}")
    place = tmp_path / "other"
    place.mkdir()
    usual = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for path, name in zip(usual, names, strict=True):
        content = (tmp_path / "expected" / path).read_bytes()
        (place / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert images_by_class(prepare(f"idx:{place}")) == images_by_class(expected)


def test_a_gzipped_copy_next_to_a_file_is_left_out(tmp_path: Path) -> None:
    place = write_four(tmp_path / "raw")
    for path in list(place.iterdir()):
        (place / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert prepare(f"idx:{place}").train_examples == 18


def test_the_start_of_names_chooses_among_several_datasets(tmp_path: Path) -> None:
    write_idx(tmp_path, "letters-train", some_images(18), LABELS + 1)
    write_idx(tmp_path, "digits-train", some_images(18), LABELS)
    assert "several files of training images: digits-train" in refusal(f"{tmp_path}")
    data = prepare(f"idx:{tmp_path}/letters")
    assert (data.name, data.shape.class_names) == ("letters", ("1", "2", "3"))
    assert data.test_split is not None


def test_rows_of_pixels_are_square_images_or_of_the_size_that_is_given(tmp_path: Path) -> None:
    rows = some_images(18, 1, 24)[:, 0]
    place = write_idx(tmp_path / "rows", "train", rows, LABELS)
    assert "24 pixels, and they are not square" in refusal(f"{place}")
    assert "--image-size 5x5 has 25" in refusal(f"{place}", image_size="5x5")
    shape = prepare(f"idx:{place}", image_size="6x4").shape
    assert (shape.width, shape.height) == (6, 4)


def test_a_size_that_idx_images_do_not_have_is_refused(tmp_path: Path) -> None:
    assert "8 x 8 pixels, expected --image-size 9x9" in refusal(f"{write_four(tmp_path / 'a')}", image_size="9x9")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0] * 18, "has one class"),
        ([0, 2] * 9, "labels up to 2, and none of 1"),
        ([2, 3] * 9, "labels up to 3, and none of 1"),
        ([0, 1] * 8, "images (18, 8, 8) and labels (16,)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[int], expected: str, tmp_path: Path) -> None:
    assert expected in refusal(f"{write_idx(tmp_path, 'train', some_images(18), np.array(labels, np.uint8))}")


def test_a_test_label_outside_the_classes_is_refused(tmp_path: Path) -> None:
    write_four(tmp_path)
    write_idx(tmp_path, "t10k", some_images(18), LABELS + 1)
    assert "the label '3', which is outside the 3 classes of the training images, 0 to 2" in refusal(f"{tmp_path}")


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_four(tmp_path)
    write_idx(tmp_path, "t10k", some_images(18, 9, 9), LABELS)
    assert "training and test images of 8 x 8 and 9 x 9 pixels" in refusal(f"{tmp_path}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not an IDX file of bytes"),
        (b"\0\0\x0d\x03" + bytes(12), "is not an IDX file of bytes"),
        (encode_idx(some_images(18))[:-1], "has 1,151 values, expected 1,152"),
        (encode_idx(some_images(18)) + b"\0", "has more values, expected 1,152"),
        (gzip.compress(encode_idx(some_images(18)), mtime=0)[:-20], "is a damaged gzip file"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "of memory, and"),
    ],
    ids=["empty", "float", "short", "long", "cut gzip", "bomb"],
)
def test_damaged_files_are_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    write_four(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    assert expected in refusal(f"{tmp_path}")


def test_missing_files_are_named(tmp_path: Path) -> None:
    (write_four(tmp_path) / "train-labels-idx1-ubyte").unlink()
    assert f"{tmp_path} has no training labels; expected files whose names say" in refusal(f"{tmp_path}")
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    assert "has no training labels and no test images; expected" in refusal(f"{tmp_path}")
