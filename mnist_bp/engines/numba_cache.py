"""A cache of machine code on disk: the first process that needs a kernel compiles it, later processes load it.

numba has such a cache, with three gaps: it checks one source file for changes, although a kernel may be made from
several; two processes that compile at once can each register the other's code as their own; and what it finds is
unpickled and executed unchecked, so one flipped bit can end the process by a signal. Therefore the directory's name
contains a digest of all sources, one process at a time compiles or loads, and the digests of the files are kept next to
them: files that do not match are deleted before numba sees them, and the code is compiled again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numba
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys

from mnist_bp.errors import DataFormatError, StoreError
from mnist_bp.storage.files import check_writable, write_bytes
from mnist_bp.storage.locks import locked
from mnist_bp.storage.reading import digest_of, read_document

logger = logging.getLogger(__name__)

_loaded: Final[dict[str, str]] = {}
"""Digest of the files of each variant that this process has compiled or loaded."""

Kernel = Callable[..., Any]
Signature = tuple[Any, ...]

SOURCES: Final = Path(__file__).parent
DIGESTS: Final = "SHA256SUMS"
"""Name of the file with the digests, in the format of `sha256sum`."""

MAX_WAIT_S: Final = 60.0
"""Seconds of waiting for another process that compiles; then, this one compiles without a cache."""


def compile_cached(variant: str, *functions: tuple[Kernel, Signature]) -> list[Kernel]:
    """Compile functions, each for one signature, or load the code that an earlier process compiled.

    The compiled functions release the interpreter's lock while they run.

    Args:
        variant: Distinguishes calls with the same functions and different signatures.
        functions: Functions, each with the numba types of its arguments.

    Raises:
        RuntimeError: numba is configured not to compile.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # set at run time
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    parent = cache_directory()
    if parent is not None:
        directory = parent / f"{sources_digest()}-{variant}"
        # otherwise the disk is full or read-only, or another process holds the lock
        with suppress(StoreError, OSError), locked(directory, timeout=MAX_WAIT_S):
            if not (before := checked_files(directory)):
                logger.info(f"train       compiling the kernels of the cpu engine ({variant}), once on this machine")
            try:
                compiled = load_functions(functions, directory) or compile_functions(functions, directory)
            except Exception:  # intact, but of another installation; or the disk is full
                delete_files(directory)
                return compile_functions(functions, None)
            with suppress(StoreError):  # without digests, the next process compiles again
                if (after := digest_list(directory)) != before:
                    write_bytes(directory / DIGESTS, after)
                _loaded[variant] = hashlib.sha256(after).hexdigest()
            return compiled
    return compile_functions(functions, None)


def code_digests(variants: Iterable[str]) -> dict[str, str] | None:
    """Return a digest of the machine code of each variant; None if this process has compiled any without a cache."""
    return {name: _loaded[name] for name in variants} if _loaded.keys() >= set(variants) else None


def checked_files(directory: Path) -> bytes:
    """Compare the cached files with their digests, and delete all of them if anything differs.

    Returns:
        The digests; empty if there are no files.

    Raises:
        OSError: A file cannot be deleted.
    """
    with suppress(StoreError, DataFormatError):  # one is missing, or is no regular file
        found = digest_list(directory)
        if read_document(directory / DIGESTS) == found:
            return found
    delete_files(directory)
    return b""


def delete_files(directory: Path) -> None:
    """Delete the cached files."""
    for file in cached_files(directory):
        file.unlink()


def digest_list(directory: Path) -> bytes:
    """Return the digests of the cached files as the file `DIGESTS` has them."""
    names = [file.relative_to(directory).as_posix() for file in cached_files(directory)]
    return "".join(f"{digest_of(directory / name)}  {name}\n" for name in names).encode()


def cached_files(directory: Path) -> list[Path]:
    """List the files that numba reads: indexes (.nbi) and machine code (.nbc)."""
    return sorted(directory.glob("*/*.nb?"))


def load_functions(functions: tuple[tuple[Kernel, Signature], ...], directory: Path) -> list[Kernel]:
    """Load functions from numba's cache in a directory; return none of them if one is missing.

    `numba.njit` does this too, but prepares to compile first, for 0.1 s.
    """
    context: Any = cpu_target.target_context
    rtsys.initialize(context)
    context.refresh = lambda: None
    try:
        with _cached_in(directory):
            found = [FunctionCache(function).load_overload(signature, context) for function, signature in functions]
    finally:
        del context.refresh
    if None in found:
        return []
    kernels: list[Any] = [numba.njit(nogil=True)(function) for function, _ in functions]
    for kernel, code in zip(kernels, found, strict=True):
        kernel.add_overload(code)
        kernel.disable_compile()  # arguments of other types are converted
    return kernels


def compile_functions(functions: tuple[tuple[Kernel, Signature], ...], directory: Path | None) -> list[Kernel]:
    """Compile functions with numba's cache in a directory, or without a cache if it is None.

    Raises:
        OSError: The directory cannot be written to.
    """
    with _cached_in(directory), _without_blas():
        return [
            numba.njit([signature], nogil=True, cache=directory is not None)(function)
            for function, signature in functions
        ]


@contextmanager
def _cached_in(directory: Path | None) -> Iterator[None]:
    """Let numba keep code in a directory, and nowhere else."""
    config: Any = numba.config
    before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES
    config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = str(directory or ""), "UserProvidedCacheLocator"
    try:
        yield
    finally:
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before


@contextmanager
def _without_blas() -> Iterator[None]:
    """Let numba find no BLAS while it first compiles: it would import SciPy, for 0.2 s, which no kernel here needs.

    In the same process, numba's `np.correlate` and `np.convolve` then sum in a loop; nothing else depends on it.
    """
    blas = "scipy.linalg.cython_blas"
    if blas in sys.modules:
        yield
        return
    sys.modules[blas] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        yield
    finally:
        del sys.modules[blas]


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
