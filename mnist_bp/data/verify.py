"""Verification of a data directory: the downloads of all datasets, and the Parquet caches made from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mnist_bp.data.datasets import DATASETS, MAX_SOURCE_SIZE, SourceFile
from mnist_bp.data.preprocess import find_cache
from mnist_bp.errors import ChecksumError
from mnist_bp.storage.file_check import FileCheck, check_file
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.storage.reading import digest_of

Sources = Mapping[str, Mapping[str, str | None]]
"""SHA-256 of the source files of each dataset, by file name; None if only the MD5 digest is known."""


def verify_caches(data_dir: Path) -> tuple[list[FileCheck], Sources]:
    """Verify every download and every Parquet cache in a data directory.

    Returns:
        A check of each, and the SHA-256 of the source files of all datasets: from `mnist_bp.data.datasets`, or, if that
        has only the MD5 digest of a file, from an intact download.
    """
    files = [(spec.name, file) for spec in DATASETS.values() for file in spec.files]
    paths = [data_dir / "raw" / name / file.name for name, file in files]
    verified = list(in_parallel(_verify_source, paths, [file for _, file in files]))
    checks = [check for _, check in verified if check is not None]
    checks += in_parallel(_verify_cache, sorted(data_dir.glob("parquet/*-*")))
    sources: dict[str, dict[str, str | None]] = {name: {} for name in DATASETS}
    for (name, file), (sha256, _) in zip(files, verified, strict=True):
        sources[name][file.name] = sha256
    return checks, sources


def _verify_source(path: Path, file: SourceFile) -> tuple[str | None, FileCheck | None]:
    known = file.digest if file.algorithm == "sha256" else None
    if not path.exists():
        return known, None
    sha256, check = check_file(str(path), _intact_sha256, path, file)
    return known or sha256, check


def _intact_sha256(path: Path, file: SourceFile) -> str:
    found = digest_of(path, file.algorithm, limit=MAX_SOURCE_SIZE)
    if found != file.digest:
        raise ChecksumError(
            f"{path} is damaged: {file.algorithm.upper()} expected {file.digest}, found {found}; "
            "the next run downloads it again"
        )
    return found if file.algorithm == "sha256" else digest_of(path)


def _verify_cache(directory: Path) -> FileCheck:
    splits, check = check_file(str(directory), find_cache, directory)
    if splits is None and not check.bad:
        return FileCheck(str(directory), "incomplete", "it has no manifest: it was not finished")
    return check
