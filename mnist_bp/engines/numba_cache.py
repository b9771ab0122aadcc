"""A cache of machine code on disk: the first process that needs a kernel compiles it, later processes load it.

numba has such a cache, with three gaps: it checks one source file for changes, although a kernel may be made from
several; two processes that compile at once can each register the other's code as their own; and a damaged file is an
exception. Therefore the directory's name contains a digest of all sources, one process compiles at a time, and code
that cannot be loaded is compiled again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numba

from mnist_bp.errors import StoreError
from mnist_bp.storage.files import check_writable, locked

Kernel = Callable[..., Any]
Signature = tuple[Any, ...]

SOURCES: Final = Path(__file__).parent


def compile_cached(variant: str, *functions: tuple[Kernel, Signature]) -> list[Kernel]:
    """Compile functions, each for one signature, or load the code that an earlier process compiled.

    The compiled functions release the interpreter's lock while they run.

    Args:
        variant: Distinguishes calls with the same functions and different signatures.
        functions: Functions, each with the numba types of its arguments.

    Raises:
        RuntimeError: numba is configured not to compile.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    parent = cache_directory()
    if parent is not None:
        directory = parent / f"{sources_digest()}-{variant}"
        with suppress(StoreError, OSError), locked(directory):  # the disk is full, or has become read-only
            try:
                return compile_functions(functions, directory)
            except OSError:
                raise
            except Exception:  # whatever unpickling damaged files may raise
                for file in directory.glob("*/*.nb?"):
                    file.unlink()
                return compile_functions(functions, directory)
    return compile_functions(functions, None)


def compile_functions(functions: tuple[tuple[Kernel, Signature], ...], directory: Path | None) -> list[Kernel]:
    """Compile functions with numba's cache in a directory, or without a cache if it is None."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(directory or "")  # type: ignore[attr-defined]
    try:
        return [
            numba.njit([signature], nogil=True, cache=directory is not None)(function)
            for function, signature in functions
        ]
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


@lru_cache
def cache_directory() -> Path | None:
    """Return the directory in which compiled code is kept.

    Returns:
        The first writable one of $NUMBA_CACHE_DIR, this package's __pycache__, and mnist-bp in the user's cache
        directory ($XDG_CACHE_HOME, else ~/.cache); None if none is writable, and each process compiles for itself.
    """
    for directory in candidate_directories():
        with suppress(StoreError):
            check_writable(directory)
            return directory
    return None


def candidate_directories() -> Iterator[Path]:
    """List the directories that compiled code may be kept in, in order of preference."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
    yield SOURCES / "__pycache__"
    with suppress(RuntimeError):  # no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist-bp"


@lru_cache
def sources_digest() -> str:
    """Digest everything that decides the machine code: numba's version and the source files of this package."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(SOURCES.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
