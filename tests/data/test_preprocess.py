"""The Parquet cache: right rows, verified hits, damage found and repaired."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mnist_bp.data import preprocess
from mnist_bp.data.parquet import load_split
from mnist_bp.data.preprocess import decode_idx, preprocess_dataset
from mnist_bp.data.sample import encode_idx
from mnist_bp.errors import ChecksumError, DataFormatError
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.locks import locked
from mnist_bp.storage.reading import digest_of


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_rows_are_those_of_the_idx_files_in_their_order(mnist_raw: RawDataset, mnist: CachedDataset) -> None:
    for split, (image_file, label_file) in ((mnist.train, mnist_raw.files[:2]), (mnist.test, mnist_raw.files[2:])):
        images, labels = load_split(split)
        raw_images = np.frombuffer(gzip.decompress(Path(image_file.path).read_bytes()), np.uint8, offset=16)
        raw_labels = np.frombuffer(gzip.decompress(Path(label_file.path).read_bytes()), np.uint8, offset=8)
        assert np.array_equal(images, raw_images.reshape(-1, 784))
        assert np.array_equal(labels, raw_labels)
    assert (mnist.train_examples, mnist.test_examples) == (60_000, 10_000)


def test_a_cache_that_another_run_has_built_in_the_meantime_is_a_hit(
    sample_raw: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def locked_after_another(directory: Path) -> Iterator[None]:
        monkeypatch.setattr(preprocess, "locked", locked)
        assert preprocess_dataset(sample_raw, tmp_path).cache == "miss"
        with locked(directory):
            yield

    monkeypatch.setattr(preprocess, "locked", locked_after_another)
    assert preprocess_dataset(sample_raw, tmp_path).cache == "hit"


def test_the_schema_is_one_fixed_size_column_of_pixels_with_metadata_on_its_content(sample: CachedDataset) -> None:
    schema = pq.read_schema(sample.train.path)
    assert [(field.name, str(field.type)) for field in schema] == [
        ("pixels", "fixed_size_binary[784]"),
        ("label", "uint8"),
    ]
    about = json.loads(schema.metadata[b"mnist_bp"])
    assert about["dataset"] == "mnist-sample"
    assert about["split"] == "train"
    assert about["key"] == sample.key


def test_an_intact_cache_is_a_hit_and_is_not_written_again(sample_raw: RawDataset, tmp_path: Path) -> None:
    first = preprocess_dataset(sample_raw, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    second = preprocess_dataset(sample_raw, tmp_path)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert second.rebuilt is None
    assert replace(second, cache="miss") == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


@pytest.mark.parametrize("damaged", ["train.parquet", "test.parquet", "manifest.json"])
def test_a_damaged_cache_is_rebuilt_and_reported(damaged: str, sample_raw: RawDataset, tmp_path: Path) -> None:
    first = preprocess_dataset(sample_raw, tmp_path)
    (path,) = tmp_path.rglob(damaged)
    flip_a_byte(path)
    second = preprocess_dataset(sample_raw, tmp_path)
    assert second.cache == "rebuilt"
    assert second.rebuilt is not None
    assert str(path.parent) in second.rebuilt
    assert (second.train, second.test) == (first.train, first.test)
    assert preprocess_dataset(sample_raw, tmp_path).cache == "hit"


def test_the_manifest_of_another_cache_is_damage_and_the_cache_rebuilt(sample_raw: RawDataset, tmp_path: Path) -> None:
    first = preprocess_dataset(sample_raw, tmp_path)
    (manifest,) = tmp_path.rglob("manifest.json")
    document = checksummed_json.loads(manifest.read_bytes(), "manifest", "no hint")
    manifest.write_bytes(checksummed_json.dumps({**document, "key": "0123456789abcdef"}))
    second = preprocess_dataset(sample_raw, tmp_path)
    assert second.cache == "rebuilt"
    assert f"belongs to the cache 0123456789abcdef, expected {first.key}" in str(second.rebuilt)
    assert preprocess_dataset(sample_raw, tmp_path).cache == "hit"


def test_a_manifest_without_a_checksum_is_damage_and_the_cache_rebuilt(sample_raw: RawDataset, tmp_path: Path) -> None:
    preprocess_dataset(sample_raw, tmp_path)
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_text(json.dumps(checksummed_json.loads(manifest.read_bytes(), "manifest", "no hint")))
    assert "has no checksum at its end" in str(preprocess_dataset(sample_raw, tmp_path).rebuilt)
    assert preprocess_dataset(sample_raw, tmp_path).cache == "hit"


def test_a_manifest_of_format_1_is_named_and_the_cache_rebuilt(sample_raw: RawDataset, tmp_path: Path) -> None:
    preprocess_dataset(sample_raw, tmp_path)
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"checksum":', b'"seal":'))
    assert "was written by an older mnist-bp in format 1" in str(preprocess_dataset(sample_raw, tmp_path).rebuilt)
    assert preprocess_dataset(sample_raw, tmp_path).cache == "hit"


def test_a_cache_with_a_missing_file_is_rebuilt_and_reported(sample_raw: RawDataset, tmp_path: Path) -> None:
    preprocess_dataset(sample_raw, tmp_path)
    next(tmp_path.rglob("test.parquet")).unlink()
    rebuilt = preprocess_dataset(sample_raw, tmp_path)
    assert rebuilt.cache == "rebuilt"
    assert "test.parquet" in str(rebuilt.rebuilt)
    assert len(load_split(rebuilt.test)[0]) == 1_000


def test_a_cache_without_a_manifest_is_incomplete_and_is_built(sample_raw: RawDataset, tmp_path: Path) -> None:
    preprocess_dataset(sample_raw, tmp_path)
    next(tmp_path.rglob("manifest.json")).unlink()
    built = preprocess_dataset(sample_raw, tmp_path)
    assert (built.cache, built.rebuilt) == ("miss", None)


def test_other_sources_or_another_version_give_another_key(
    sample_raw: RawDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = preprocess.cache_key(sample_raw)
    assert preprocess.cache_key(replace(sample_raw, files=sample_raw.files[::-1])) != key
    monkeypatch.setattr(preprocess, "PREPROCESS_VERSION", preprocess.PREPROCESS_VERSION + 1)
    assert preprocess.cache_key(sample_raw) != key


def test_a_split_with_a_wrong_digest_is_not_parsed(sample: CachedDataset, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(bytes(sample.train.size))
    with pytest.raises(ChecksumError, match=sample.train.sha256):
        load_split(replace(sample.train, path=str(path)))


def test_an_intact_file_that_is_not_a_split_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    digest = write_bytes(path, b"PAR1 but not Parquet PAR1")
    with pytest.raises(DataFormatError, match=r"train\.parquet is not a split"):
        load_split(FileDigest(str(path), digest, 25))


def test_idx_round_trip(tmp_path: Path) -> None:
    values = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    (tmp_path / "plain").write_bytes(encode_idx(values))
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(encode_idx(values)))
    for name in ("plain", "zipped.gz"):
        assert np.array_equal(decode_idx(tmp_path / name).numpy(), values)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", b""),
        ("html", b"<html>not found</html>"),
        ("short", encode_idx(np.zeros((2, 28, 28), np.uint8))[:-1]),
        ("floats", struct.pack(">HBBI", 0, 0x0D, 1, 1) + struct.pack(">f", 1.0)),
        ("not-gzip.gz", b"plain text"),
        ("cut.gz", gzip.compress(bytes(1000), mtime=0)[:-9]),
    ],
)
def test_what_is_not_an_idx_file_of_bytes_is_a_format_error(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match=name) as caught:
        decode_idx(path)
    assert "\n" not in str(caught.value)


def raw_dataset(directory: Path, images: tuple[int, ...], labels: list[int]) -> RawDataset:
    arrays = (np.ones(images, np.uint8), np.array(labels, np.uint8)) * 2
    files = []
    for number, array in enumerate(arrays):
        path = directory / str(number)
        digest = write_bytes(path, encode_idx(array))
        files.append(FileDigest(str(path), digest, path.stat().st_size))
    return RawDataset("handmade", tuple(files), "miss")


@pytest.mark.parametrize(
    ("images", "labels"), [((3, 28, 28), [1, 2]), ((2, 27, 28), [1, 2]), ((2, 28, 28), [1, 10]), ((2, 784), [1, 2])]
)
def test_images_and_labels_that_do_not_match_are_a_format_error(
    images: tuple[int, ...], labels: list[int], tmp_path: Path
) -> None:
    with pytest.raises(DataFormatError, match="handmade train"):
        preprocess_dataset(raw_dataset(tmp_path, images, labels), tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


def test_two_processes_build_one_cache(sample_raw: RawDataset, tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from mnist_bp.data import preprocess\n"
        "from mnist_bp.results.common import FileDigest\n"
        "from mnist_bp.results.dataset import RawDataset\n"
        "build = preprocess.build_cache\n"
        "preprocess.build_cache = lambda *a: (print('built'), time.sleep(1), build(*a))[-1]\n"
        "files = tuple(FileDigest(path, digest, 0) for path, digest in zip(sys.argv[2::2], sys.argv[3::2]))\n"
        "raw = RawDataset('mnist-sample', files, 'hit')\n"
        "print(preprocess.preprocess_dataset(raw, Path(sys.argv[1])).train.sha256)\n"
    )
    arguments = [text for file in sample_raw.files for text in (file.path, file.sha256)]
    command = [sys.executable, "-c", script, str(tmp_path), *arguments]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    (train,) = tmp_path.rglob("train.parquet")
    assert sorted(line for lines in printed for line in lines) == sorted(["built", digest_of(train), digest_of(train)])
    assert not list(tmp_path.rglob("*.tmp"))
