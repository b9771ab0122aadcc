"""Parquet files of the user's own, local or in S3: a fixed-size binary column of pixels, and a column `label`.

    URI                                 one file, or a directory; test images are chosen
    URI/train*.parquet, test*.parquet   or train/*.parquet, test/*.parquet: test images are given

Labels are whole numbers, or text, which names the classes. Files are read whole, in order of name. The size of the
images is in the metadata of files that mnist-bp wrote; otherwise it is named, or the images are square.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_bp.data.own.classes import (
    MAX_NAME,
    Examples,
    OwnData,
    as_indices,
    check_memory_for,
    name_classes,
    number_classes,
    split_data,
)
from mnist_bp.data.own.listing import ListingDigest, expect_unchanged
from mnist_bp.data.own.sizes import image_size
from mnist_bp.data.parquet import about_split, byte_values, describe_schema, shape_of
from mnist_bp.errors import DataFormatError, counted
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.common import FileDigest, Progress
from mnist_bp.results.dataset import DatasetShape, OwnSource
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.memory import available_memory

SUFFIX: Final = ".parquet"

MAX_LABEL: Final = 1_000_000
"""Largest label that is a number; there are at most 256 classes."""

_TOGETHER: Final = 1_024
"""Rows that are decoded at a time: labels of any length are in memory for so many."""

_EXPECTED: Final = "expected one fixed-size binary column of pixels, and a column label of whole numbers or text"


def find_tables(source: OwnSource, on_progress: Progress) -> tuple[FileDigest, ...]:
    """Return one digest of all files: of their names and contents, which are read and not kept.

    Args:
        source: The file or the directory.
        on_progress: Called with the bytes read, the size of all files, and the name of the file.

    Raises:
        DataFormatError: There are no Parquet files, or some that belong to neither split, or more than fit in memory.
        StoreError: They cannot be read.
    """
    store, keys = _list_tables(source)
    listing, total, read = ListingDigest(), sum(keys.values()), 0
    if total > (available := available_memory()):
        raise DataFormatError(
            f"{source.place} has {total / 1e9:,.1f} GB of Parquet files, and {available / 1e9:,.1f} GB of memory are "
            "free: give fewer or smaller images"
        )
    for key in keys:
        digest, size = hashlib.sha256(), 0
        for chunk in store.stream(key):
            digest.update(chunk)
            size += len(chunk)
            on_progress(read + size, total, key)
        read += size
        listing.add(key.encode(), digest.hexdigest(), size)
    return (listing.file(source.place),)


def read_tables(source: OwnSource, expected: FileDigest) -> OwnData:
    """Read all files into memory.

    Args:
        source: The file or the directory.
        expected: Result of `find_tables`.

    Raises:
        DataFormatError: A file has another schema, nulls, or labels that are no classes, a split has no rows, or all
            together do not fit in memory; or they changed since.
        StoreError: They cannot be read.
    """
    store, keys = _list_tables(source)
    listing, tables = ListingDigest(), []
    for key in keys:
        content = b"".join(store.stream(key))
        listing.add(key.encode(), hashlib.sha256(content).hexdigest(), len(content))
        tables.append(_Table(store.uri(key), content, test=len(keys) > 1 and _is_test(key)))
    expect_unchanged(source.place, listing.file(source.place).sha256, expected.sha256)
    first = tables[0]
    for table in tables:
        if (table.pixels.type, table.has_names) != (first.pixels.type, first.has_names):
            raise DataFormatError(f"{table.name} has the columns {table.columns}, and {first.name} {first.columns}")
        if table.shape and first.shape and table.shape != first.shape:  # equal labels would stand for different classes
            raise DataFormatError(
                f"the metadata of {table.name} and of {first.name} state different sizes or classes, expected "
                "equal ones; write both files from one dataset, or give the labels as text"
            )
    inputs = first.pixels.type.byte_width
    check_memory_for(sum(table.rows for table in tables), inputs, source.place)
    if first.shape is not None and source.size is None:
        height, width = first.shape.height, first.shape.width
    else:
        height, width = image_size(inputs, source)
    train, test = (_read([each for each in tables if each.test == is_test], inputs) for is_test in (False, True))
    classes = _classes(train[1], first, source.place)
    if not test[1] and (tests := [table.name for table in tables if table.test]):
        raise DataFormatError(f"{tests[0]} has no rows of test images; add some, or remove it to have them chosen")
    splits = [
        Examples(images.reshape(-1, height, width), as_indices(_named(labels, first), classes, source.place))
        for images, labels in (train, test)
        if len(labels)
    ]
    return split_data(splits[0], splits[1] if test[1] else None, classes, source.place)


Labels = list[int] | list[str]


class _Table:
    """A Parquet file in memory.

    Args:
        name: Its address, for messages.
        content: Its bytes.
        test: Whether it holds test images.

    Raises:
        DataFormatError: It is no Parquet file, or has another schema.
    """

    def __init__(self, name: str, content: bytes, *, test: bool) -> None:
        self.name, self.test, self._content = name, test, content
        try:
            file = pq.ParquetFile(pa.BufferReader(content))
            schema = file.schema_arrow
        except (pa.ArrowException, OSError) as exc:
            raise DataFormatError(f"{name} is not a Parquet file: {exc}; {_EXPECTED}") from exc
        self.rows, self.columns = file.metadata.num_rows, describe_schema(schema)
        pixels = [field for field in schema if pa.types.is_fixed_size_binary(field.type)]
        labels = [field for field in schema if field.name == "label"]
        if (
            len(pixels) != 1
            or len(labels) != 1
            or not (_is_text(labels[0].type) or pa.types.is_integer(labels[0].type))
        ):
            rename = "" if labels else "; rename the column of the labels, or add one"
            raise DataFormatError(f"{name} has the columns {self.columns}; {_EXPECTED}{rename}")
        self.pixels, self.label, self.has_names = pixels[0], labels[0], _is_text(labels[0].type)
        self.shape = self._known_shape(file.metadata)

    def _known_shape(self, metadata: pq.FileMetaData) -> DatasetShape | None:
        """Return the shape if mnist-bp wrote the file, else None."""
        try:
            about = about_split(metadata)
            shape = shape_of(about) if "image_shape" in about else None
        except ValueError:
            return None
        return shape if shape and shape.inputs == self.pixels.type.byte_width else None

    def read(self, images: UInt8Array) -> Labels:
        """Read all rows, the pixels into an array of shape (rows, D), and return the labels.

        Raises:
            DataFormatError: A value is null, a label is too long, or the file is damaged.
        """
        labels: list[Any] = []
        names = [self.label.name] if self.has_names else None  # a long label is not repeated in memory
        try:
            file = pq.ParquetFile(pa.BufferReader(self._content), read_dictionary=names)
            columns = [self.pixels.name, self.label.name]
            for batch in file.iter_batches(_TOGETHER, columns=columns, use_threads=False):
                pixels, label = batch.column(self.pixels.name), batch.column(self.label.name)
                for field, column in ((self.pixels, pixels), (self.label, label)):
                    if column.null_count:
                        raise DataFormatError(
                            f"{self.name} has {counted(column.null_count, 'null')} in the column {field.name}, "
                            "expected none; remove those rows"
                        )
                if self.has_names and (longest := pc.max(pc.utf8_length(label.dictionary)).as_py()) > MAX_NAME:
                    raise DataFormatError(
                        f"{self.name} has a label of {longest:,} characters, expected the name of a class, of at most "
                        f"{MAX_NAME}"
                    )
                images[len(labels) : len(labels) + len(batch)] = byte_values(pixels, images.shape[1])
                labels += label.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise DataFormatError(f"{self.name} is damaged: {exc}; restore it from a copy") from exc
        return labels


def _read(tables: list[_Table], inputs: int) -> tuple[UInt8Array, Labels]:
    """Read several tables into one array, shape (rows, D), and their labels into one list."""
    images = np.empty((sum(table.rows for table in tables), inputs), np.uint8)
    labels: list[Any] = []
    for table in tables:
        labels += table.read(images[len(labels) : len(labels) + table.rows])
    return images, labels


def _classes(labels: Labels, table: _Table, place: str) -> tuple[str, ...]:
    if not labels:
        raise DataFormatError(f"{place} has no rows of training images; {_EXPECTED}")
    if table.has_names:
        return name_classes([str(label) for label in set(labels)], place)
    if table.shape is not None:
        name_classes(table.shape.class_names, place)
        return table.shape.class_names
    if max(map(int, labels)) > MAX_LABEL:
        raise DataFormatError(f"{place} has the label {max(map(int, labels)):,}, expected at most {MAX_LABEL:,}")
    return number_classes(np.array(labels, np.int64), place)


def _named(labels: Labels, table: _Table) -> list[Any]:
    """Return labels as names of classes, or as numbers that are names."""
    if table.has_names or table.shape is None:
        return list(labels)
    names = dict(enumerate(table.shape.class_names))
    return [names.get(int(label), str(label)) for label in labels]


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _list_tables(source: OwnSource) -> tuple[Store, dict[str, int]]:
    """Return the store that holds the files, and the size of each by its key, in order."""
    store, found = open_store(source.place), dict[str, int]()
    above, _, last = source.place.rpartition("/")
    if last.endswith(SUFFIX) and above != "s3:/":  # a bucket, or a directory, may have such a name too
        file = open_store(above)
        found = {entry.key: entry.size for entry in file.list_entries(last) if entry.key == last}
        store = file if found else store
    found = found or {entry.key: entry.size for entry in store.list_entries("") if entry.key.endswith(SUFFIX)}
    found = dict(sorted(found.items()))
    if not found:
        missing = "" if source.place.startswith("s3://") or os.path.lexists(source.place) else ": it does not exist"
        raise DataFormatError(f"{source.place} has no Parquet files (*{SUFFIX}){missing}; check the address")
    tests = [name for name in found if _is_test(name)]
    others = [name for name in found if not _is_test(name) and not _split_of(name).startswith("train")]
    if tests and others and len(found) > 1:
        raise DataFormatError(
            f"{source.place} has test images, {tests[0]}, and {others[0]}, which is of neither split: expected names "
            "that begin with train and test, or folders train and test"
        )
    if len(tests) == len(found) > 1:
        raise DataFormatError(f"{source.place} has test images alone, such as {tests[0]}: expected training images too")
    return store, found


def _is_test(key: str) -> bool:
    return _split_of(key).startswith("test")


def _split_of(key: str) -> str:
    """Return the first part of a key that names a split, or the name of the file."""
    parts = [part.lower() for part in PurePosixPath(key).parts]
    return next((part for part in parts if part.startswith(("train", "test"))), parts[-1])
