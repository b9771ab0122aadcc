"""Download of the four files of a dataset, each from the first mirror that delivers it intact.

A file is streamed to `<name>.partial`. After an interruption, the partial file is kept and continued with a Range
request. It is renamed only once its digest is right; the length that a server states does not matter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mnist_bp.data.datasets import DATASETS, MAX_SOURCE_SIZE, DatasetSpec, SourceFile
from mnist_bp.data.mirrors import DEFAULT_LIMITS, MIRRORS_VARIABLE, Limits, MirrorError, mirrors_of, open_mirror
from mnist_bp.data.own.address import dataset_name, is_own, own_source
from mnist_bp.data.sample import write_sample
from mnist_bp.errors import ChecksumError, DownloadError, MirrorFailure
from mnist_bp.results.common import FileDigest, Progress
from mnist_bp.results.dataset import RawDataset
from mnist_bp.storage.files import PARTIAL_SUFFIX, commit
from mnist_bp.storage.locks import locked
from mnist_bp.storage.os_errors import reading_from, writing_to
from mnist_bp.storage.reading import digest_of, open_regular


def fetch(
    choice: str,
    data_dir: Path,
    settings: Mapping[str, Any] = MappingProxyType({}),
    *,
    last_attempt: bool,
    on_progress: Progress | None = None,
) -> RawDataset:
    """Fetch a dataset by `fetch_mnist_or_sample` if the choice is `auto`, else by `fetch_dataset`; or find own images.

    Args:
        choice: As `RunConfig.dataset`.
        data_dir: See `fetch_dataset`.
        settings: Those of images of the user's own, by name; see `own_source`.
        last_attempt: See `fetch_mnist_or_sample`.
        on_progress: See `fetch_dataset`.
    """
    if is_own(choice):
        from mnist_bp.data.own.source import find_own  # 10 ms, which other datasets do not need

        return find_own(dataset_name(choice), own_source(choice, settings), on_progress)
    if choice == "auto":
        return fetch_mnist_or_sample(data_dir, last_attempt=last_attempt, on_progress=on_progress)
    return fetch_dataset(choice, data_dir, on_progress=on_progress)


def fetch_dataset(
    name: str, data_dir: Path, *, limits: Limits = DEFAULT_LIMITS, on_progress: Progress | None = None
) -> RawDataset:
    """Fetch the files of a dataset that are missing or damaged; intact files are not fetched again.

    Args:
        name: Name of the dataset; not `auto`.
        data_dir: Data directory; the files are written to `raw/<name>/` in it.
        limits: Limits of one request to a mirror.
        on_progress: Called after each chunk with the bytes of a file on disk, its size where the mirror states it, and
            the file's name.

    Raises:
        ConfigError: `MNIST_BP_MIRRORS` contains an unusable address.
        DownloadError: No mirror delivered a file.
        ChecksumError: The bundled sample differs from the expected one.
        StoreError: The disk is full, read-only or missing.
    """
    spec = DATASETS[name]
    directory = data_dir / "raw" / name
    if files := _intact_files(spec, directory):
        return RawDataset(name, files, "hit")
    with locked(directory):  # of two concurrent runs, one fetches and the other finds the files
        if spec.mirrors:
            for file in spec.files:
                if _intact_file(directory, file) is None:
                    _fetch(spec, file, directory, limits, on_progress or (lambda *_: None))
        elif _intact_files(spec, directory) is None:
            write_sample(directory, spec)
        files = _intact_files(spec, directory)
    if files is None:
        raise ChecksumError(
            f"{directory} does not contain {name} as it was written: another program changed it; run again"
        )
    return RawDataset(name, files, "miss")


def fetch_mnist_or_sample(
    data_dir: Path, *, last_attempt: bool, limits: Limits = DEFAULT_LIMITS, on_progress: Progress | None = None
) -> RawDataset:
    """Fetch MNIST, or unpack the bundled sample if MNIST cannot be downloaded; the notice then states the reason.

    Args:
        data_dir: See `fetch_dataset`.
        last_attempt: Whether the caller will not try again after a failure.
        limits: See `fetch_dataset`.
        on_progress: See `fetch_dataset`.

    Raises:
        DownloadError: A mirror was reached but interrupted the download, and this is not the last attempt.
        ConfigError, ChecksumError, StoreError: See `fetch_dataset`.
    """
    try:
        return fetch_dataset("mnist", data_dir, limits=limits, on_progress=on_progress)
    except DownloadError as exc:
        if exc.reached and not last_attempt:
            raise
        notice = (
            "MNIST could not be downloaded; using the bundled mnist-sample instead (4,000 training and 1,000 test "
            f"images): its accuracies are NOT comparable with MNIST's. Cause: {exc}"
        )
    return replace(fetch_dataset("mnist-sample", data_dir), notice=notice)


def _intact_files(spec: DatasetSpec, directory: Path) -> tuple[FileDigest, ...] | None:
    """Return the files of a dataset if all of them exist and are intact, else None."""
    found = tuple(file for file in (_intact_file(directory, file) for file in spec.files) if file is not None)
    return found if len(found) == len(spec.files) else None


def _intact_file(directory: Path, file: SourceFile) -> FileDigest | None:
    """Return a file if it exists with the right digest, else None."""
    path = directory / file.name
    with reading_from(path):
        if not path.is_file():
            return None
        size = path.stat().st_size
    if size > MAX_SOURCE_SIZE or digest_of(path, file.algorithm) != file.digest:
        return None
    return FileDigest(str(path), file.digest if file.algorithm == "sha256" else digest_of(path), size)


def _fetch(spec: DatasetSpec, file: SourceFile, directory: Path, limits: Limits, on_progress: Progress) -> None:
    """Fetch one file, trying each mirror in order."""
    partial = directory / f"{file.name}{PARTIAL_SUFFIX}"
    failures = []
    for mirror in mirrors_of(spec):
        try:
            _fetch_from(mirror, file, partial, limits, on_progress)
        except MirrorError as exc:
            failures.append(MirrorFailure(mirror + file.name, exc.kind, exc.reason))
        else:
            commit(partial, directory / file.name)
            return
    raise DownloadError(
        f"{spec.name}: {file.name}",
        failures,
        f"Check the network, point {MIRRORS_VARIABLE} at a mirror that has it, or use --dataset mnist-sample",
    )


def _fetch_from(mirror: str, file: SourceFile, partial: Path, limits: Limits, on_progress: Progress) -> None:
    """Complete `partial` from one mirror; if it cannot be continued, fetch it once more from the start."""
    if not partial.is_file() or partial.stat().st_size > limits.size:
        with writing_to(partial):
            partial.unlink(missing_ok=True)
    for start in (partial.stat().st_size if partial.exists() else 0, 0):
        try:
            content_type = _receive(mirror, file.name, partial, start, limits, on_progress)
        except MirrorError as exc:
            if partial.exists() and digest_of(partial, file.algorithm) == file.digest:
                return  # interrupted after the last byte of the file
            if exc.kind == "corrupt":
                partial.unlink()
            if start == 0 or exc.kind in ("interrupted", "unreachable"):
                raise
            continue
        found, size = digest_of(partial, file.algorithm), partial.stat().st_size
        if found == file.digest:
            return
        partial.unlink()
        if start == 0:
            raise MirrorError(
                "corrupt",
                f"delivered {size:,} bytes{content_type} whose {file.algorithm.upper()} is {found}, "
                f"expected {file.digest}",
            )


def _receive(mirror: str, name: str, partial: Path, start: int, limits: Limits, on_progress: Progress) -> str:
    """Write what the mirror sends to `partial`, from byte `start` on, or from 0 on if it sends the whole file.

    Returns:
        ` of <content type>`, for the message if the digest is wrong; empty if the mirror states none.
    """
    deadline = time.monotonic() + limits.total
    with open_mirror(mirror, name, start, limits) as response:
        received = response.start
        with writing_to(partial), open_regular(partial, os.O_RDWR | os.O_CREAT) as file:
            file.truncate(received)
            file.seek(received)
            for chunk in response.chunks:
                received += len(chunk)
                if received > limits.size:
                    raise MirrorError("corrupt", f"sent more than {limits.size:,} bytes, the largest size allowed")
                if time.monotonic() > deadline:
                    raise MirrorError("interrupted", f"not finished after {limits.total:g} s")
                file.write(chunk)
                on_progress(received, response.size, name)
    return f" of {response.content_type}" if response.content_type else ""
