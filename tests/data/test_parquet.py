"""A split in Parquet: read row for row, cheaply, and refused if the file is something else."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_bp.data import parquet
from mnist_bp.data.parquet import LAYOUT, decode_split, load_split, split_table
from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.storage.files import write_bytes


def some(rows: int) -> tuple[UInt8Array, UInt8Array]:
    generator = np.random.default_rng(rows)
    return generator.integers(0, 256, (rows, 784), np.uint8), generator.integers(0, 10, rows, np.uint8)


def written(table: pa.Table, **changed: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{**LAYOUT, **changed})
    return sink.getvalue()


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize(("rows", "row_group"), [(1, 100), (99, 100), (100, 100), (1_001, 100), (7, 1), (0, 100)])
def test_rows_keep_their_order_however_many_row_groups_and_readers(
    rows: int, row_group: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_READERS", readers)
    expected, expected_labels = some(rows)
    images, labels = decode_split(written(split_table(expected, expected_labels, {}), row_group_size=row_group))
    assert np.array_equal(images, expected)
    assert np.array_equal(labels, expected_labels)
    assert images.shape == (rows, 784)
    assert {images.dtype, labels.dtype} == {np.dtype(np.uint8)}


def test_the_arrays_that_are_read_are_contiguous_writable_and_own_their_memory() -> None:
    for array in decode_split(written(split_table(*some(10), {}))):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.owndata


def test_images_of_28_by_28_are_written_as_rows_of_784() -> None:
    images, labels = some(5)
    assert split_table(images.reshape(-1, 28, 28), labels, {}).equals(split_table(images, labels, {}))


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"pixels": pa.array([bytes(783)], pa.binary(783)), "label": pa.array([1], pa.uint8())}, "783"),
        ({"pixels": pa.array([bytes(784)], pa.binary(784)), "label": pa.array([1], pa.int64())}, "label: int64"),
        ({"pixels": pa.array([bytes(784)], pa.binary(784))}, "pixels"),
        ({"step": pa.array([1])}, "step: int64"),
    ],
)
def test_a_parquet_file_with_other_columns_is_a_format_error_that_names_them(
    columns: dict[str, pa.Array], named: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.parquet"
    digest = write_bytes(path, written(pa.table(columns)))
    with pytest.raises(DataFormatError, match=named) as caught:
        load_split(FileDigest(str(path), digest, path.stat().st_size))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    content = written(split_table(*some(50), {}))
    digest = write_bytes(path, content[:1_000] + content[2_000:])
    with pytest.raises(DataFormatError, match="delete it and run again"):
        load_split(FileDigest(str(path), digest, len(content) - 1_000))


def test_loading_imports_neither_pandas_nor_torch_nor_arrows_datasets(sample: CachedDataset) -> None:
    script = (
        "import sys\n"
        "from mnist_bp.results.common import FileDigest\n"
        "from mnist_bp.data.parquet import load_split\n"
        "load_split(FileDigest(sys.argv[1], sys.argv[2], int(sys.argv[3])))\n"
        "print(sorted({'pandas', 'torch', 'pyarrow.dataset'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script, sample.train.path, sample.train.sha256, str(sample.train.size)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_cache_is_written_with_the_stated_layout(mnist: CachedDataset) -> None:
    metadata = pq.read_metadata(mnist.train.path)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes == [LAYOUT["row_group_size"]] * 10
    pixels = metadata.row_group(0).column(0)
    assert (pixels.compression, pixels.has_dictionary_page) == ("ZSTD", False)
    assert mnist.train.size < 9_700_000
