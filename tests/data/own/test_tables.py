"""Parquet files, local or in S3, become the cache; text labels name the classes; other schemas are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_bp.data.download import fetch
from mnist_bp.data.own import classes, tables
from mnist_bp.data.parquet import split_table
from mnist_bp.data.preprocess import cache_key
from mnist_bp.errors import DataFormatError
from mnist_bp.results.dataset import CachedDataset, DatasetShape
from tests.support.own_images import images_by_class, prepare, rows_of, some_images, table, write_table

NAMES = ["cat", "dog", "cow"] * 6
NUMBERS = [0, 1, 2] * 6


def refusal(place: object, **settings: Any) -> str:
    """Return the line that a place is refused with."""
    with pytest.raises(DataFormatError) as caught:
        prepare(f"parquet:{place}", **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mnist_as_own_parquet_files_gives_the_rows_of_mnist(mnist: CachedDataset) -> None:
    own = prepare(f"parquet:{Path(mnist.train.path).parent}")
    assert (own.shape, own.test_split) == (mnist.shape, None)
    for split, arrays in rows_of(mnist).items():
        assert all(map(np.array_equal, arrays, rows_of(own)[split]))


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_as_text_are_the_names_of_the_classes(type_: pa.DataType, tmp_path: Path) -> None:
    data = prepare(f"parquet:{write_table(tmp_path / 'Pets.parquet', some_images(18), pa.array(NAMES, type_))}")
    assert (data.name, data.shape.class_names) == ("pets", ("cat", "cow", "dog"))
    assert images_by_class(data) == {(n, i.tobytes()) for n, i in zip(NAMES, some_images(18), strict=True)}


@pytest.mark.parametrize("type_", [pa.uint8(), pa.int64(), pa.int32()])
def test_labels_of_any_integer_type_are_accepted_from_0_or_1_on(type_: pa.DataType, tmp_path: Path) -> None:
    for first in (0, 1):
        labels = pa.array([label + first for label in NUMBERS], type_)
        data = prepare(f"parquet:{write_table(tmp_path / f'{first}.parquet', some_images(18), labels)}")
        assert data.shape.class_names == tuple(str(label + first) for label in range(3))


@pytest.mark.parametrize("names", [("train-0.parquet", "test-0.parquet"), ("train/a.parquet", "test/a.parquet")])
def test_files_or_folders_named_train_and_test_are_the_splits(names: tuple[str, str], tmp_path: Path) -> None:
    for name, images in zip(names, (some_images(18), some_images(18)[::-1]), strict=True):
        write_table(tmp_path / "own" / name, images, NUMBERS)
    data = prepare(f"parquet:{tmp_path / 'own'}")
    assert data.test_split is None
    assert np.array_equal(rows_of(data)["train"][0], some_images(18).reshape(18, -1))
    assert np.array_equal(rows_of(data)["test"][0], some_images(18)[::-1].reshape(18, -1))


def test_a_directory_of_parts_is_one_dataset_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in range(3):
        rows = slice(6 * number, 6 * number + 6)
        write_table(tmp_path / "own" / f"part-{number}.parquet", some_images(18)[rows], NUMBERS[rows])
    parts, whole = (
        prepare(f"parquet:{place}")
        for place in (tmp_path / "own", write_table(tmp_path / "all.parquet", some_images(18), NUMBERS))
    )
    assert parts.test_split == classes.SPLIT_RULE
    for split, arrays in rows_of(parts).items():
        assert all(map(np.array_equal, arrays, rows_of(whole)[split]))


def test_a_cache_of_own_images_is_read_with_its_size_and_class_names(tmp_path: Path) -> None:
    images = some_images(18, 4, 6)
    first = prepare(f"parquet:{write_table(tmp_path / 'a.parquet', images, NAMES)}", image_size="6x4")
    again = prepare(f"parquet:{Path(first.train.path).parent}")
    assert again.shape == first.shape
    assert images_by_class(again) == images_by_class(first)


def test_a_bucket_of_s3_is_read_like_a_directory(s3_bucket: str, s3_admin: Any, tmp_path: Path) -> None:
    path = write_table(tmp_path / "own" / "a.parquet", some_images(18), NUMBERS)
    s3_admin.upload_file(str(path), s3_bucket, "images/own/a.parquet")
    s3_admin.upload_file(str(path), s3_bucket, "images/spark.parquet/part-0.parquet")
    local = prepare(f"parquet:{path}", "local")
    for place in ("images/own", "images/own/a.parquet", "images/spark.parquet"):
        data = prepare(f"parquet:s3://{s3_bucket}/{place}", place)
        assert data.cache == "miss"
        assert images_by_class(data) == images_by_class(local)
    with pytest.raises(DataFormatError, match="has no Parquet files"):
        prepare(f"parquet:s3://{s3_bucket}/nowhere")


@pytest.mark.parametrize("place", ["zoo.parquet", "zoo.parquet/tests.parquet"])
def test_a_bucket_or_directory_may_be_named_like_a_file(
    place: str, s3_bucket: str, s3_admin: Any, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "zoo.parquet" / "tests.parquet" / "a.parquet", some_images(18), NUMBERS)
    write_table(tmp_path / "other.parquet", some_images(9), NUMBERS[:9])
    bucket = f"{s3_bucket}.parquet"
    s3_admin.create_bucket(Bucket=bucket)
    s3_admin.upload_file(str(path), bucket, "tests.parquet/a.parquet")
    local = prepare(f"parquet:{tmp_path / place}", "local")
    remote = prepare(f"parquet:s3://{place.replace('zoo.parquet', bucket)}", "remote")
    assert images_by_class(local) == images_by_class(remote)
    assert len(images_by_class(local)) == 18


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": pa.array([b"ab", b"cd"]), "label": [0, 1]}, "image: binary, label: int64; expected one fixed-size"),
        ({"image": pa.array([b"ab", b"cd"], pa.binary(2)), "label": [0.0, 1.0]}, "label: double; expected"),
        ({"image": pa.array([b"ab", b"cd"], pa.binary(2))}, "has the columns image: fixed_size_binary[2]; expected"),
        ({"image": pa.array([b"abcd", None], pa.binary(4)), "label": [0, 1]}, "has 1 null in the column image"),
        ({"image": pa.array([b"abcd", b"efgh"], pa.binary(4)), "label": [0, None]}, "has 1 null in the column label"),
    ],
)
def test_another_schema_and_nulls_are_refused(columns: dict[str, Any], expected: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "own.parquet")
    assert expected in refusal(tmp_path / "own.parquet")


@pytest.mark.parametrize("other", ["y", "id", "Label"])
def test_a_column_of_another_name_is_not_taken_for_the_labels(other: str, tmp_path: Path) -> None:
    renamed = table(some_images(18), NUMBERS).rename_columns(["pixels", other])
    pq.write_table(renamed, tmp_path / "own.parquet")
    message = refusal(tmp_path / "own.parquet")
    assert f"has the columns pixels: fixed_size_binary[64], {other}: int64; expected" in message
    assert message.endswith("a column label of whole numbers or text; rename the column of the labels, or add one")


def test_a_place_that_does_not_exist_is_named_as_such(tmp_path: Path) -> None:
    assert "nowhere has no Parquet files (*.parquet): it does not exist; check" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty has no Parquet files (*.parquet); check" in refusal(tmp_path / "empty")


def test_refused_images_leave_no_cache_and_remove_none_that_was_there_before(tmp_path: Path) -> None:
    path, caches = write_table(tmp_path / "own.parquet", some_images(18), [0, 1, 5] * 6), tmp_path / "data" / "parquet"
    with pytest.raises(DataFormatError):
        prepare(f"parquet:{path}", tmp_path / "data")
    assert list(caches.iterdir()) == []
    earlier = caches / f"own-{cache_key(fetch(f'parquet:{path}', tmp_path / 'data', last_attempt=True))}"
    earlier.mkdir()
    with pytest.raises(DataFormatError):
        prepare(f"parquet:{path}", tmp_path / "data")
    assert list(caches.iterdir()) == [earlier]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([-1, 0, 1] * 6, "has the label -1, expected 0 or more"),
        ([0, 1, 2**40] * 6, "has the label 1,099,511,627,776, expected at most"),
        ([0, 1, 255] * 6, "has labels up to 255, and none of 2"),
        (["a", " ", "b"] * 6, "has a class named ' ': expected"),
    ],
)
def test_labels_out_of_range_are_refused(labels: list[Any], expected: str, tmp_path: Path) -> None:
    assert expected in refusal(write_table(tmp_path / "own.parquet", some_images(18), labels))


def test_texts_that_are_no_names_of_classes_are_refused_and_not_repeated_in_memory(tmp_path: Path) -> None:
    labels = [str(number % 10) * 50_000 for number in range(500)]
    path = write_table(tmp_path / "own.parquet", some_images(500), labels)
    counting, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(counting)
    try:
        assert "has a label of 50,000 characters, expected the name of a class, of at most 100" in refusal(path)
    finally:
        pa.set_memory_pool(usual)
    assert counting.max_memory() < 500 * 50_000 / 5


def test_more_classes_than_a_byte_counts_are_refused(tmp_path: Path) -> None:
    labels = [str(number) for number in range(257)] * 2
    path = write_table(tmp_path / "own.parquet", some_images(514), labels)
    assert "has 257 classes, expected 2 to 256" in refusal(path)


def test_images_that_do_not_fit_in_memory_are_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "own.parquet", some_images(18), NUMBERS)
    monkeypatch.setattr(classes, "available_memory", lambda: 2_000)
    message = refusal(path)
    assert "has 18 images of 64 pixels, which need 0.0 GB of memory, and 0.0 GB are free" in message
    monkeypatch.setattr(tables, "available_memory", lambda: 200)
    assert "own.parquet has 0.0 GB of Parquet files, and 0.0 GB of memory are free" in refusal(path)


def test_images_of_more_than_the_longest_side_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "own.parquet", some_images(4, 1_025, 1_025), [0, 1, 0, 1])
    assert "1,025 x 1,025 pixels, expected sides of at most 1,024" in refusal(path)


def test_files_of_two_schemas_a_damaged_one_and_none_at_all_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "own" / "a.parquet", some_images(18), NUMBERS)
    write_table(tmp_path / "own" / "b.parquet", some_images(18, 9, 9), NUMBERS)
    assert "fixed_size_binary[81]" in refusal(tmp_path / "own")
    content = (tmp_path / "own" / "a.parquet").read_bytes()
    (tmp_path / "own" / "b.parquet").write_bytes(content[:-9])
    assert "is not a Parquet file" in refusal(tmp_path / "own")
    assert "has no Parquet files" in refusal(tmp_path / "nothing")


def test_a_file_of_neither_split_next_to_test_images_is_refused(tmp_path: Path) -> None:
    for name in ("train", "test", "validation"):
        write_table(tmp_path / "own" / f"{name}.parquet", some_images(18), NUMBERS)
    assert "test.parquet, and validation.parquet, which is of neither split" in refusal(tmp_path / "own")


def test_given_test_images_without_rows_are_refused_and_none_are_chosen_instead(tmp_path: Path) -> None:
    train = write_table(tmp_path / "own" / "train.parquet", some_images(18), NUMBERS)
    pq.write_table(pq.read_table(train).slice(0, 0), train.with_name("test.parquet"))
    assert "test.parquet has no rows of test images; add some, or remove it" in refusal(tmp_path / "own")


def test_two_splits_whose_metadata_name_other_classes_are_refused(tmp_path: Path) -> None:
    for split, names in (("train", ("cat", "dog")), ("test", ("dog", "cat"))):
        images, labels = some_images(8, 4, 4), np.arange(8, dtype=np.uint8) % 2
        (tmp_path / "own").mkdir(exist_ok=True)
        pq.write_table(
            split_table(images, labels, {}, DatasetShape(4, 4, names)), tmp_path / "own" / f"{split}.parquet"
        )
    assert "state different sizes or classes" in refusal(tmp_path / "own")


@pytest.mark.parametrize("runs", [1, 5])
def test_training_images_that_are_grouped_by_class_are_mixed_next_to_given_test_images(
    runs: int, tmp_path: Path
) -> None:
    labels = np.tile(np.repeat(np.arange(3), 60 // runs), runs)
    write_table(tmp_path / "own" / "train.parquet", some_images(180), labels)
    write_table(tmp_path / "own" / "test.parquet", some_images(18), NUMBERS)
    _, found = rows_of(prepare(f"parquet:{tmp_path / 'own'}"))["train"]
    assert set(found[-15:].tolist()) == {0, 1, 2}
    assert sorted(found.tolist()) == sorted(labels.tolist())


def test_names_of_classes_in_the_metadata_are_checked(tmp_path: Path) -> None:
    names = ("cat", "d\x1b[31mog")
    images, labels = some_images(8, 4, 4), np.arange(8, dtype=np.uint8) % 2
    pq.write_table(split_table(images, labels, {}, DatasetShape(4, 4, names)), tmp_path / "own.parquet")
    assert "expected 1 to 100 printable characters" in refusal(tmp_path / "own.parquet")
