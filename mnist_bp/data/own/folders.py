"""The layout of folders of pictures: one folder for each class, of PNG and JPEG files.

    PATH/<class>/*.png                      test images are chosen
    PATH/train/<class>/*.png                test images are given
    PATH/test/<class>/*.png

Hidden files, and those that systems add to folders, are ignored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mnist_bp.data.own.listing import HINT
from mnist_bp.errors import DataFormatError
from mnist_bp.storage.os_errors import reading_from

_TRAIN: Final = frozenset({"train", "training"})
_TEST: Final = frozenset({"test", "testing"})
_IGNORED: Final = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
_LAYOUT: Final = "expected a folder for each class, or train and test with a folder for each class"


@dataclass(frozen=True)
class Picture:
    """A file.

    Args:
        path: Below the place, with forward slashes.
        label: Name of its class.
        test: Whether it is a test image; None if test images are chosen.
    """

    path: str
    label: str
    test: bool | None


def list_pictures(place: Path) -> list[Picture]:
    """List all files in the folders of classes, in order of path.

    Raises:
        DataFormatError: The folders have another layout, or a class is empty.
        StoreError: A folder cannot be read.
    """
    folders = {entry.name: entry for entry in _entries(place) if entry.is_dir()}
    train, test = ([name for name in folders if name.lower() in names] for names in (_TRAIN, _TEST))
    given = len(train) == len(test) == 1 and any(entry.is_dir() for entry in _entries(folders[train[0]]))
    if given and len(folders) > 2:
        others = sorted(folders.keys() - {train[0], test[0]})
        raise DataFormatError(f"{place} has {train[0]}, {test[0]} and {', '.join(others[:5])}; {_LAYOUT}")
    if not given:
        _refuse_one_split(place, folders, train, test)
    pictures = []
    for start, is_test in [(f"{train[0]}/", False), (f"{test[0]}/", True)] if given else [("", None)]:
        for entry in _entries(place / start):
            if entry.is_dir():
                pictures += _pictures_of_class(entry, start, is_test)
            elif entry.name.lower().endswith((".png", ".jpg", ".jpeg")):
                raise DataFormatError(f"{entry.path} is in no class's folder; {_LAYOUT}")
    if not pictures:
        raise DataFormatError(f"{place} has no folders; {_LAYOUT}")
    return sorted(pictures, key=lambda picture: os.fsencode(picture.path))


def _refuse_one_split(place: Path, folders: dict[str, os.DirEntry[str]], train: list[str], test: list[str]) -> None:
    """Refuse a folder train without test, or the reverse, that has folders of classes."""
    for found, others, missing in ((train, test, "test"), (test, train, "train")):
        if found and not others and _has_only_folders(_entries(folders[found[0]])):
            raise DataFormatError(
                f"{place} has {found[0]}, and no {missing} next to it: add {missing}, with a folder for each class, or "
                f"give images:{place / found[0]} to have test images chosen"
            )


def _has_only_folders(entries: list[os.DirEntry[str]]) -> bool:
    return bool(entries) and all(entry.is_dir() for entry in entries)


def _pictures_of_class(folder: os.DirEntry[str], start: str, is_test: bool | None) -> list[Picture]:
    files = _entries(folder)
    if not files:
        name = folder.name
        raise DataFormatError(f"{folder.path} is empty: expected pictures of the class {name}; add some, or remove it")
    if _has_only_folders(files):
        raise DataFormatError(
            f"{folder.path} has folders, such as {min(file.name for file in files)}, and no pictures: expected "
            f"pictures of the class {folder.name}; {_LAYOUT}"
        )
    return [Picture(f"{start}{folder.name}/{file.name}", folder.name, is_test) for file in files]


def _entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    with reading_from(Path(folder), HINT), os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _IGNORED]
