"""IDX files of the user's own: images and labels, for training and for the test, gzipped or not.

    PATH/train-images-idx3-ubyte.gz     or train-images.idx3-ubyte, my-train-images, ...
    PATH/train-labels-idx1-ubyte.gz
    PATH/t10k-images-idx3-ubyte.gz      or test-images...; without the last two, test images are chosen
    PATH/t10k-labels-idx1-ubyte.gz

The name of a file says `images` or `labels`, and `train`, or `t10k` or `test`. If PATH is no directory, it is the start
of the names of files: idx:emnist/emnist-letters reads the files emnist-letters-* in the directory emnist.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np

from mnist_bp.data.own.classes import Examples, OwnData, as_indices, check_memory_for, number_classes, split_data
from mnist_bp.data.own.listing import HINT, expect_unchanged
from mnist_bp.data.own.sizes import check_sides, image_size
from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import OwnSource
from mnist_bp.storage.os_errors import reading_from
from mnist_bp.storage.reading import digest_of, open_regular

_NAMES: Final = (
    "expected files whose names say train or t10k (test), and images or labels, such as train-images-idx3-ubyte"
)
_UBYTE: Final = 0x08
_ROLES: Final = ("training images", "training labels", "test images", "test labels")


def find_idx(source: OwnSource) -> tuple[FileDigest, ...]:
    """Return the digests of the training images and labels, and of those of the test if they are given.

    Raises:
        DataFormatError: A file is missing, or several have one role.
        StoreError: The directory or a file cannot be read.
    """
    found: dict[str, list[Path]] = {role: [] for role in _ROLES}
    for path in _candidates(Path(source.place)):
        if role := _role(path.name):
            found[role].append(path)
    for role, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths[:5])
            raise DataFormatError(f"{source.place} has several files of {role}: {names}; {_NAMES}, one of each")
    needed = _ROLES if found[_ROLES[2]] or found[_ROLES[3]] else _ROLES[:2]
    if missing := [role for role in needed if not found[role]]:
        raise DataFormatError(f"{source.place} has no {' and no '.join(missing)}; {_NAMES}")
    files = [paths[0] for paths in found.values() if paths]
    return tuple(FileDigest(str(path), digest_of(path), _size(path)) for path in files)


def read_idx(source: OwnSource, files: tuple[FileDigest, ...]) -> OwnData:
    """Decode the files.

    Args:
        source: Their directory.
        files: Result of `find_idx`.

    Raises:
        DataFormatError: A file is damaged, or images and labels do not match; or they changed since.
    """
    arrays = [_decode(file) for file in files]
    splits = [_examples(arrays[i], arrays[i + 1], files[i], source) for i in range(0, len(arrays), 2)]
    classes = number_classes(splits[0].labels.astype(np.int64), source.place)
    train, *test = (Examples(each.images, as_indices(each.labels, classes, source.place)) for each in splits)
    if test and test[0].images.shape[1:] != train.images.shape[1:]:
        sizes = " and ".join(f"{each.images.shape[2]} x {each.images.shape[1]}" for each in (train, test[0]))
        raise DataFormatError(f"{source.place} has training and test images of {sizes} pixels, expected one size")
    return split_data(train, test[0] if test else None, classes, source.place)


def _candidates(place: Path) -> list[Path]:
    """List the files that may be meant; of a file and its gzipped copy, the file."""
    directory, start = (place, "") if place.is_dir() else (place.parent, place.name)
    with reading_from(directory, HINT):
        names = [path.name for path in directory.iterdir()]
    known = {name for name in names if name.startswith(start) and not name.startswith(".")}
    return [directory / name for name in sorted(known) if name.removesuffix(".gz") == name or name[:-3] not in known]


def _role(name: str) -> str | None:
    name = name.lower()
    train, test = "train" in name, "t10k" in name or "test" in name
    images, labels = "image" in name, "label" in name
    if train == test or images == labels:
        return None
    return f"{'training' if train else 'test'} {'images' if images else 'labels'}"


def _size(path: Path) -> int:
    with reading_from(path, HINT):
        return path.stat().st_size


def _decode(file: FileDigest) -> UInt8Array:
    """Decode an IDX file of bytes; `mnist_bp.data.sample.encode_idx` names the source of the format."""
    path = Path(file.path)
    try:
        with reading_from(path, HINT), open_regular(path) as stored:
            gzipped = stored.peek(2)[:2] == b"\x1f\x8b"
            content = gzip.GzipFile(fileobj=stored) if gzipped else stored
            start = content.read(4)
            if len(start) < 4 or start[:3] != bytes((0, 0, _UBYTE)) or not 1 <= start[3] <= 3:
                raise DataFormatError(f"{path} is not an IDX file of bytes; {_NAMES}")
            sizes = content.read(4 * start[3])
            shape = struct.unpack(f">{start[3]}I", sizes) if len(sizes) == 4 * start[3] else ()
            if not shape or min(shape) < 1:
                raise DataFormatError(f"{path} has the shape {shape}: expected at least one image")
            check_memory_for(shape[0], math.prod(shape[1:]), str(path))
            values = content.read(math.prod(shape) + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise DataFormatError(f"{path} is a damaged gzip file: {exc}; restore it from a copy") from exc
    if len(values) != math.prod(shape):
        more = "more" if len(values) > math.prod(shape) else f"{len(values):,}"
        raise DataFormatError(
            f"{path} is damaged: it has {more} values, expected {math.prod(shape):,} for the shape {shape}; restore it "
            "from a copy"
        )
    expect_unchanged(str(path), digest_of(path), file.sha256)
    return np.frombuffer(values, np.uint8).reshape(shape)


def _examples(images: UInt8Array, labels: UInt8Array, file: FileDigest, source: OwnSource) -> Examples:
    if labels.shape != images.shape[:1] or images.ndim not in (2, 3):
        raise DataFormatError(
            f"{file.path}: images {images.shape} and labels {labels.shape}; expected (N, height, width) and (N,)"
        )
    height, width = images.shape[1:] if images.ndim == 3 else image_size(images.shape[1], source)
    check_sides(height, width, file.path)
    if source.size not in (None, (width, height)):
        wanted = "{}x{}".format(*source.size)
        raise DataFormatError(f"{file.path} has images of {width} x {height} pixels, expected --image-size {wanted}")
    return Examples(images.reshape(-1, height, width), labels)
