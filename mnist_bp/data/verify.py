"""Verify a data directory: the datasets' downloads, and the Parquet caches made from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mnist_bp.data.datasets import DATASETS, SourceFile
from mnist_bp.data.preprocess import find_cache
from mnist_bp.errors import ChecksumError
from mnist_bp.storage.file_check import FileCheck, check_file
from mnist_bp.storage.files import digest_of
from mnist_bp.storage.parallel import in_parallel

Sources = Mapping[str, Mapping[str, str | None]]
"""SHA-256 of the source files of each dataset, by name; None where only another digest is known."""


def verify_caches(data_dir: Path) -> tuple[list[FileCheck], Sources]:
    """Verify every download and every Parquet cache that is there.

    Returns:
        What was found; and the SHA-256 of the datasets' files: where `mnist_bp.data.datasets` has their MD5 alone,
        that of a download which has this MD5.
    """
    files = [(spec.name, file) for spec in DATASETS.values() for file in spec.files]
    paths = [data_dir / "raw" / name / file.name for name, file in files]
    looked = list(in_parallel(_verify_source, paths, [file for _, file in files]))
    findings = [finding for _, finding in looked if finding is not None]
    findings += in_parallel(_verify_cache, sorted(data_dir.glob("parquet/*-*")))
    sources: dict[str, dict[str, str | None]] = {name: {} for name in DATASETS}
    for (name, file), (sha256, _) in zip(files, looked, strict=True):
        sources[name][file.name] = sha256
    return findings, sources


def _verify_source(path: Path, file: SourceFile) -> tuple[str | None, FileCheck | None]:
    known = file.digest if file.algorithm == "sha256" else None
    if not path.exists():
        return known, None
    sha256, finding = check_file(str(path), _digest_of_intact, path, file)
    return known or sha256, finding


def _digest_of_intact(path: Path, file: SourceFile) -> str:
    found = digest_of(path, file.algorithm)
    if found != file.digest:
        raise ChecksumError(
            f"{path} is damaged: {file.algorithm.upper()} expected {file.digest}, found {found}; "
            "the next run downloads it again"
        )
    return found if file.algorithm == "sha256" else digest_of(path)


def _verify_cache(directory: Path) -> FileCheck:
    found, finding = check_file(str(directory), find_cache, directory)
    unfinished = found is None and not finding.bad
    return FileCheck(str(directory), "incomplete", "it has no manifest: it was not finished") if unfinished else finding
