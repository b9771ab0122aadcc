"""Download: the four files of a dataset, each from the first mirror that delivers it intact.

A file is streamed to `<name>.partial`, which survives an interruption and is continued with a Range request, and gets
its name only once its digest is right. The digest decides, not the length that a server claims.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from mnist_bp.datasets import DATASETS, MIRRORS_VARIABLE, DatasetSpec, SourceFile, mirrors_of
from mnist_bp.errors import ChecksumError, DownloadError, FailureKind, MirrorFailure, StoreError
from mnist_bp.files import commit, locked, sha256_of, writing_to
from mnist_bp.records import RawDataset, StoredFile
from mnist_bp.sample import write_sample
from mnist_bp.store import open_store

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes of it on disk so far, and its size where the mirror states it."""


@dataclass(frozen=True)
class Limits:
    """What a mirror may cost.

    Args:
        connect: Seconds until it answers the call.
        silence: Seconds without a byte.
        total: Seconds for one file.
        size: Bytes of one file; the largest known has 30 million.
    """

    connect: float = 10
    silence: float = 20
    total: float = 600
    size: int = 64 << 20


DEFAULT_LIMITS: Final = Limits()


def fetch_dataset(
    name: str, data_dir: Path, *, limits: Limits = DEFAULT_LIMITS, on_progress: Progress | None = None
) -> RawDataset:
    """Make sure that the files of a dataset are on disk and intact. Intact files are not fetched again.

    Args:
        name: A dataset's name; not `auto`.
        data_dir: The files go to `raw/<name>/` in it.
        limits: What a mirror may cost.
        on_progress: Told about every piece that arrives.

    Raises:
        ConfigError: `MNIST_BP_MIRRORS` holds something unusable.
        DownloadError: No mirror delivered a file.
        ChecksumError: The bundled sample is not the one that is expected.
        StoreError: The disk is full, read-only or gone.
    """
    spec = DATASETS[name]
    directory = data_dir / "raw" / name
    if files := _find(spec, directory):
        return RawDataset(name, files, "hit")
    with locked(directory):  # of two runs, one fetches and the other finds it done
        if spec.mirrors:
            for file in spec.files:
                if _intact(directory, file) is None:
                    _fetch(spec, file, directory, limits, on_progress or (lambda *_: None))
        else:
            write_sample(directory, spec)
        files = _find(spec, directory)
    if files is None:
        raise ChecksumError(
            f"{directory} does not hold {name} as it was written; another program changed it: run again"
        )
    return RawDataset(name, files, "miss")


def fetch_mnist_or_sample(
    data_dir: Path, *, last_attempt: bool, limits: Limits = DEFAULT_LIMITS, on_progress: Progress | None = None
) -> RawDataset:
    """Fetch MNIST; where it cannot be had, unpack the bundled sample and say why in its notice.

    Args:
        data_dir: See `fetch_dataset`.
        last_attempt: Whether nobody will call again after a failure.
        limits: See `fetch_dataset`.
        on_progress: See `fetch_dataset`.

    Raises:
        DownloadError: A mirror was reached and broke off, and it is not the last attempt.
        ConfigError, ChecksumError, StoreError: See `fetch_dataset`.
    """
    try:
        return fetch_dataset("mnist", data_dir, limits=limits, on_progress=on_progress)
    except DownloadError as exc:
        if exc.reached and not last_attempt:
            raise
        notice = (
            "MNIST could not be had, so this run uses the bundled mnist-sample (4,000 training and 1,000 test images): "
            f"its accuracies are NOT comparable with MNIST's. Why: {exc}"
        )
    return replace(fetch_dataset("mnist-sample", data_dir), notice=notice)


def _find(spec: DatasetSpec, directory: Path) -> tuple[StoredFile, ...] | None:
    """Describe the files of a dataset if all of them are there and intact."""
    found = tuple(file for file in (_intact(directory, file) for file in spec.files) if file is not None)
    return found if len(found) == len(spec.files) else None


def _intact(directory: Path, file: SourceFile) -> StoredFile | None:
    """Describe a file if it is there with the right digest."""
    path = directory / file.name
    if not path.is_file() or _digest(path, file) != file.digest:
        return None
    return StoredFile(str(path), sha256_of(path), path.stat().st_size)


def _digest(path: Path, file: SourceFile) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, file.algorithm).hexdigest()


def _fetch(spec: DatasetSpec, file: SourceFile, directory: Path, limits: Limits, on_progress: Progress) -> None:
    """Put one file in place, trying each mirror in order."""
    partial = directory / f"{file.name}.partial"
    failures = []
    for mirror in mirrors_of(spec):
        try:
            _fetch_from(mirror, file, partial, limits, on_progress)
        except _MirrorError as exc:
            failures.append(MirrorFailure(mirror + file.name, exc.kind, exc.reason))
        else:
            commit(partial, directory / file.name)
            return
    raise DownloadError(
        f"{spec.name}: {file.name}",
        failures,
        f"Check the network, point {MIRRORS_VARIABLE} at a mirror that has it, or use --dataset mnist-sample",
    )


@dataclass
class _MirrorError(Exception):
    kind: FailureKind
    reason: str


def _fetch_from(mirror: str, file: SourceFile, partial: Path, limits: Limits, on_progress: Progress) -> None:
    """Complete `partial` from one mirror; where continuing it does not work out, once more from the start."""
    for start in (partial.stat().st_size if partial.exists() else 0, 0):
        try:
            content_type = _receive(mirror, file.name, partial, start, limits, on_progress)
        except _MirrorError as exc:
            if partial.exists() and _digest(partial, file) == file.digest:
                return  # broken off after the last byte that matters
            if exc.kind == "corrupt":
                partial.unlink()
            if start == 0 or exc.kind == "interrupted":
                raise
            continue
        found, size = _digest(partial, file), partial.stat().st_size
        if found == file.digest:
            return
        partial.unlink()
        if start == 0:
            raise _MirrorError(
                "corrupt",
                f"delivered {size:,} bytes{content_type} whose {file.algorithm.upper()} is {found}, "
                f"expected {file.digest}",
            )


def _receive(mirror: str, name: str, partial: Path, start: int, limits: Limits, on_progress: Progress) -> str:
    """Write to `partial`, from byte `start` on, what the mirror sends; from 0 on where it sends everything.

    Returns:
        The content type, for the message if the digest turns out wrong; empty where there is none.
    """
    deadline = time.monotonic() + limits.total
    with _open(mirror, name, start, limits) as reply:
        received = reply.start
        with writing_to(partial), partial.open("ab" if received else "wb") as file:
            for chunk in reply.chunks:
                received += len(chunk)
                if received > limits.size:
                    raise _MirrorError("corrupt", f"sends more than the {limits.size:,} bytes that are allowed")
                if time.monotonic() > deadline:
                    raise _MirrorError("interrupted", f"not done after {limits.total:g} s")
                file.write(chunk)
                on_progress(name, received, reply.size)
    return f" of {reply.content_type}" if reply.content_type else ""


@dataclass(frozen=True)
class _Reply:
    """What a mirror sends: bytes from `start` on, of `size` in all where it says so."""

    start: int
    size: int | None
    chunks: Iterator[bytes]
    content_type: str = ""


def _open(mirror: str, name: str, start: int, limits: Limits) -> AbstractContextManager[_Reply]:
    if mirror.startswith(("http://", "https://")):
        return _open_http(mirror + name, start, limits)
    return nullcontext(_Reply(start, None, _stream(mirror, name, start)))


def _stream(mirror: str, name: str, start: int) -> Iterator[bytes]:
    try:
        yield from open_store(mirror).stream(name, start)
    except StoreError as exc:
        raise _MirrorError("interrupted" if exc.transient else "refused", str(exc)) from exc


@contextmanager
def _open_http(url: str, start: int, limits: Limits) -> Iterator[_Reply]:
    headers = {"Accept-Encoding": "identity"}  # the digest is of the file as it is stored
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = httpx.Timeout(limits.silence, connect=limits.connect)
    try:
        with httpx.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            yield _read_reply(response, start)
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        raise _MirrorError("unreachable", f"cannot be reached ({exc or 'timed out'})") from exc
    except httpx.ReadTimeout as exc:
        raise _MirrorError("interrupted", f"silent for {limits.silence:g} s") from exc
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects) as exc:
        raise _MirrorError("refused", str(exc)) from exc
    except httpx.TransportError as exc:
        raise _MirrorError("interrupted", f"broken off ({exc or type(exc).__name__})") from exc


def _read_reply(response: httpx.Response, start: int) -> _Reply:
    status = response.status_code
    length = int(response.headers.get("Content-Length", 0)) or None
    content_type = response.headers.get("Content-Type", "")
    if status == httpx.codes.OK:
        return _Reply(0, length, response.iter_raw(), content_type)
    if status == httpx.codes.PARTIAL_CONTENT and response.headers.get("Content-Range", "").startswith(
        f"bytes {start}-"
    ):
        return _Reply(start, length and start + length, response.iter_raw(), content_type)
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        return _Reply(start, start, iter(()))  # nothing beyond what is there: the digest will tell
    transient = status >= 500 or status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
    raise _MirrorError("interrupted" if transient else "refused", f"HTTP {status} {response.reason_phrase}".strip())
