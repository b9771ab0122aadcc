"""Pictures in folders are hashed, decoded and converted to one size.

They become 8-bit grey levels as `mnist_bp.data.pictures.decode_picture` describes; light and dark are kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mnist_bp.data.own.address import MAX_SIDE
from mnist_bp.data.own.classes import Examples, OwnData, as_indices, check_memory_for, name_classes, split_data
from mnist_bp.data.own.folders import Picture, list_pictures
from mnist_bp.data.own.listing import HINT, ListingDigest, expect_unchanged
from mnist_bp.errors import DataFormatError, MnistBpError
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.common import FileDigest, Progress
from mnist_bp.results.dataset import OwnSource
from mnist_bp.storage.os_errors import reading_from
from mnist_bp.storage.reading import open_regular, sha256_of_bytes, size_of

logger = logging.getLogger(__name__)

MAX_SIZE: Final = 64 << 20
"""Bytes of the largest picture that is read."""

MAX_NAMED: Final = 20
"""Unreadable pictures that a message names."""

TOGETHER: Final = 256
"""Pictures that are read at a time: so many files are in memory."""


@dataclass(frozen=True)
class _Unreadable:
    """Why a picture cannot be read, after its name."""

    problem: str


def find_images(source: OwnSource, on_progress: Progress) -> tuple[FileDigest, ...]:
    """Return one digest of all pictures: of their names and contents.

    Args:
        source: The folders.
        on_progress: Called with the number of pictures read, their total number, and a note.

    Raises:
        DataFormatError: The folders have another layout, or a class is empty.
        StoreError: A folder cannot be read.
    """
    place, listing = Path(source.place), ListingDigest()
    pictures = list_pictures(place)
    for number, picture in enumerate(pictures, start=1):
        _add(listing, picture, _read(place, picture))
        if number % TOGETHER == 0 or number == len(pictures):
            on_progress(number, len(pictures), "pictures")
    return (listing.file(source.place),)


def read_images(source: OwnSource, expected: FileDigest) -> OwnData:
    """Decode all pictures.

    Args:
        source: The folders.
        expected: Result of `find_images`.

    Raises:
        DataFormatError: Pictures cannot be read, or none of a class; or they have several sizes, or changed since.
    """
    place, listing = Path(source.place), ListingDigest()
    pictures = list_pictures(place)
    problems: list[str] = []
    sizes: dict[tuple[int, int], tuple[int, str]] = {}  # width and height: how many, and the first
    images: UInt8Array | None = None
    used: list[Picture] = []
    for picture, content, grey in _decoded(place, pictures, source.size):
        _add(listing, picture, content)
        if isinstance(grey, _Unreadable):
            problems.append(grey.problem)
            continue
        height, width = grey.shape
        count, first = sizes.get((width, height), (0, picture.path))
        sizes[width, height] = count + 1, first
        if images is None:
            images = _room(len(pictures), height, width, source.place)
        if len(sizes) == 1:
            images[len(used)] = grey
        used.append(picture)
    expect_unchanged(source.place, listing.file(source.place).sha256, expected.sha256)
    _check_readable(problems, len(pictures), source)
    _check_sizes(sizes, source.place)
    if images is None:
        raise DataFormatError(f"{source.place} has no picture that can be read; expected PNG and JPEG files")
    _check_classes(pictures, used, source.place)
    return _data(used, images[: len(used)], source.place, len(problems))


def _data(used: list[Picture], images: UInt8Array, place: str, skipped: int) -> OwnData:
    tests = np.array([bool(picture.test) for picture in used])
    classes = name_classes([picture.label for picture in used if not picture.test], place)
    labels = as_indices([picture.label for picture in used], classes, place)
    if used[0].test is None:
        return split_data(Examples(images, labels), None, classes, place, skipped)
    train, test = (Examples(images[rows], labels[rows]) for rows in (~tests, tests))
    return split_data(train, test, classes, place, skipped)


# ---------------------------------------------------------------------------------------------------------------------
# one picture


def _read(place: Path, picture: Picture) -> bytes | _Unreadable:
    path = place / picture.path
    try:
        with reading_from(path, HINT), open_regular(path) as file:
            if (size := size_of(file)) > MAX_SIZE:
                return _Unreadable(f"{picture.path} has {size:,} bytes, expected at most {MAX_SIZE:,}")
            return file.read(size)
    except MnistBpError as exc:
        cause = exc.__cause__
        return _Unreadable(f"{picture.path}: {cause.strerror if isinstance(cause, OSError) else exc}")


def _add(listing: ListingDigest, picture: Picture, content: bytes | _Unreadable) -> None:
    if isinstance(content, bytes):
        listing.add(os.fsencode(picture.path), sha256_of_bytes(content), len(content))
    else:
        listing.add(os.fsencode(picture.path), "unreadable", 0)


def _decoded(
    place: Path, pictures: list[Picture], size: tuple[int, int] | None
) -> Iterator[tuple[Picture, bytes | _Unreadable, UInt8Array | _Unreadable]]:
    """Read and decode all pictures on several threads: decoders release the interpreter's lock."""

    def decode(picture: Picture) -> tuple[Picture, bytes | _Unreadable, UInt8Array | _Unreadable]:
        content = _read(place, picture)
        return picture, content, content if isinstance(content, _Unreadable) else _grey(content, picture, size)

    with ThreadPoolExecutor() as threads:
        for start in range(0, len(pictures), TOGETHER):
            yield from threads.map(decode, pictures[start : start + TOGETHER])


def _grey(content: bytes, picture: Picture, size: tuple[int, int] | None) -> UInt8Array | _Unreadable:
    from mnist_bp.data.pictures import decode_picture, scale_picture

    try:
        grey = decode_picture(content, picture.path)
    except DataFormatError as exc:
        return _Unreadable(str(exc).removesuffix(", or a batch: IDX or .npy"))
    return grey if size is None else scale_picture(grey, size)


# ---------------------------------------------------------------------------------------------------------------------
# checks


def _room(count: int, height: int, width: int, place: str) -> UInt8Array:
    if max(height, width) > MAX_SIDE:
        raise DataFormatError(
            f"{place} has pictures of {width:,} x {height:,} pixels, expected sides of at most {MAX_SIDE:,}: give a "
            "size to convert them to, such as --image-size 28x28"
        )
    check_memory_for(count, height * width, place)
    return np.empty((count, height, width), np.uint8)


def _check_readable(problems: list[str], total: int, source: OwnSource) -> None:
    if not problems:
        return
    more = f"; and {len(problems) - MAX_NAMED:,} more" if len(problems) > MAX_NAMED else ""
    text = f"{len(problems):,} of the {total:,} pictures in {source.place} cannot be read: " + (
        "; ".join(problems[:MAX_NAMED]) + more
    )
    if not source.skip_unreadable:
        raise DataFormatError(f"{text}. Replace or remove them, or leave them out with --skip-unreadable")
    logger.warning(f"{text}. They are left out")


def _check_classes(pictures: list[Picture], used: list[Picture], place: str) -> None:
    """Refuse a class all of whose pictures would be left out: a model would not know it.

    Raises:
        DataFormatError: There is one.
    """
    if lost := sorted({picture.label for picture in pictures} - {picture.label for picture in used}):
        raise DataFormatError(
            f"{place} has no picture of the class {lost[0]} that can be read; replace them, or remove the folder to "
            "train without this class"
        )


def _check_sizes(sizes: dict[tuple[int, int], tuple[int, str]], place: str) -> None:
    if len(sizes) < 2:
        return
    ranked = sorted(sizes.items(), key=lambda each: -each[1][0])
    shown = [f"{w} x {h} ({n:,}, such as {path})" for (w, h), (n, path) in ranked[:3]]
    more = f" and {len(sizes) - 3:,} more" if len(sizes) > 3 else ""
    (width, height), _ = ranked[0]
    raise DataFormatError(
        f"{place} has pictures of {len(sizes)} sizes: {', '.join(shown)}{more}; give the size to convert all "
        f"to, such as --image-size {width}x{height}"
    )
