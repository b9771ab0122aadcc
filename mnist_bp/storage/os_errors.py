"""Errors of the operating system as StoreError: one line with the place, the cause and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mnist_bp.errors import StoreError

RECREATE: Final = "run the pipeline again to recreate it"
DELETE: Final = "delete it and run again"
RESTORE: Final = "restore it from a copy"
"""What the user can do about a file that is missing, that is damaged, and that a run cannot make again."""

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def reading_from(place: Path, hint: str = RECREATE) -> Iterator[None]:
    """Raise StoreError in place of any OSError of the block, which reads.

    Args:
        place: File or directory that is read, for the message.
        hint: What the user can do.
    """
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot read {place}: {exc.strerror or exc}; {hint}") from exc


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Raise StoreError in place of any OSError of the block, which writes: disk full, read-only, removed.

    Args:
        place: File or directory that is written, for the message.
    """
    try:
        yield
    except OSError as exc:
        raise StoreError(f"cannot write {place}: {_write_problem(exc, place)}; earlier files are unchanged") from exc


def _write_problem(exc: OSError, place: Path) -> str:
    if isinstance(exc, FileExistsError | NotADirectoryError):
        in_the_way = [path for path in (place, *place.parents) if path.exists() and not path.is_dir()]
        if in_the_way:
            return f"{in_the_way[0]} is a file, expected a directory; choose another place (--data-dir, --artifacts)"
    remedy = "free space or choose" if exc.errno in _NO_SPACE else "choose"
    return f"{exc.strerror or exc}; {remedy} another place (--data-dir, --artifacts)"
