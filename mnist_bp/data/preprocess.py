"""Preprocessing of IDX files, and of images of the user's own, to a Parquet cache, which is keyed by its source files.

    <data dir>/parquet/<dataset>-<key>/train.parquet
                                       test.parquet
                                       manifest.json      with a checksum, written last: it holds the digests of the two

What the Parquet files look like, and how they are read, is in `mnist_bp.data.parquet`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_bp.data.parquet import LAYOUT, about_split, count_rows, shape_of, split_table
from mnist_bp.errors import DataFormatError, MnistBpError
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset, CacheOutcome, RawDataset, SplitRule
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import atomic_write, temporary_file, write_bytes
from mnist_bp.storage.locks import LOCK, locked
from mnist_bp.storage.os_errors import reading_from
from mnist_bp.storage.reading import digest_of, open_regular, read_document, read_verified
from mnist_bp.storage.schema import FrozenModel, Sha256, Size, validate

if TYPE_CHECKING:  # a cache is found, and proved intact, without the 2 s of importing torch
    from torch import Tensor

PREPROCESS_VERSION: Final = 2
"""Must be changed whenever the same source files would give different Parquet files."""

MANIFEST: Final = "manifest.json"
SPLITS: Final = ("train", "test")

_HINT: Final = "the next run rebuilds it"


class _SplitEntry(FrozenModel):
    sha256: Sha256
    size: Size


class _Splits(FrozenModel):
    train: _SplitEntry
    test: _SplitEntry


class CacheManifest(FrozenModel):
    """The manifest of a cache.

    Args:
        key: See `cache_key`.
        files: Digests and sizes of the Parquet files.
    """

    key: str
    files: _Splits


def preprocess_dataset(raw: RawDataset, data_dir: Path) -> CachedDataset:
    """Return the Parquet cache of a dataset; build it if it is missing or damaged.

    Args:
        raw: Verified IDX files, or images of the user's own.
        data_dir: Data directory; the cache is written to `parquet/` in it.

    Raises:
        DataFormatError: The IDX files are not 28x28 images with one label each, or the user's own cannot be used.
        StoreError: The disk is full, read-only or missing.
    """
    key = cache_key(raw)
    directory = data_dir / "parquet" / f"{raw.name}-{key}"
    found, damage = _find_or_explain(directory)
    if found is not None:
        return _describe(raw, key, found, "hit")
    created = not directory.exists()
    with locked(directory):  # of two concurrent runs, one builds and the other finds the cache
        found = _find_or_explain(directory)[0]
        if found is None:
            outcome: CacheOutcome = "rebuilt" if damage else "miss"
            try:
                return _describe(raw, key, build_cache(raw, key, directory), outcome, damage)
            except DataFormatError:
                if created:
                    _remove_unfinished(directory)
                raise
    return _describe(raw, key, found, "hit")


def cache_key(raw: RawDataset) -> str:
    """Return the digest of everything that decides the cache's content: the source files and `PREPROCESS_VERSION`.

    Of images of the user's own, also what is done with them, but not where they are.
    """
    source = json.dumps([PREPROCESS_VERSION, raw.name, [file.sha256 for file in raw.files]])
    if (own := raw.own) is not None:
        source += json.dumps([own.kind, own.size, own.skip_unreadable])
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def decode_idx(path: Path) -> Tensor:
    """Decode an IDX file, gzipped or not.

    Returns:
        Its values, uint8, in the shape that the file states.

    Raises:
        DataFormatError: It is not an IDX file of bytes.
        StoreError: It is missing or unreadable, or there is no space for it unzipped, as a temporary file.
    """
    import torch
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor  # 2 s, needed only on a cache miss

    with reading_from(path), open_regular(path) as stored, temporary_file() as file:
        try:
            shutil.copyfileobj(gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored, file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
            raise DataFormatError(f"{path} is not gzipped: {exc}; delete it and run again") from exc
        file.flush()
        try:
            values: Tensor = read_sn3_pascalvincent_tensor(file.name)
        except (AssertionError, ValueError, KeyError, IndexError) as exc:
            raise DataFormatError(f"{path} is not an IDX file ({exc!r}); delete it and run again") from exc
    if values.dtype != torch.uint8:
        raise DataFormatError(f"{path} contains {values.dtype} values, expected bytes; delete it and run again")
    return values


Splits = dict[str, FileDigest]


def _remove_unfinished(directory: Path) -> None:
    """Remove the directory of a cache that was refused; its lock is held, and its manifest was not written."""
    with suppress(OSError):  # another run has written to it in the meantime
        for name in (*(f"{split}.parquet" for split in SPLITS), LOCK):
            directory.joinpath(name).unlink(missing_ok=True)
        directory.rmdir()


def _find_or_explain(directory: Path) -> tuple[Splits | None, str | None]:
    """Return the files of an intact cache, or what is wrong with a damaged one; neither if it is missing."""
    try:
        return find_cache(directory), None
    except MnistBpError as exc:
        return None, str(exc).removesuffix(f"; {_HINT}")  # this run does


def find_cache(directory: Path) -> Splits | None:
    """Return the verified files of a cache, or None if it was not built.

    Args:
        directory: `<dataset>-<key>`.

    Raises:
        MnistBpError: It is damaged.
    """
    manifest, key = directory / MANIFEST, directory.name.rpartition("-")[2]
    with reading_from(manifest):
        if not manifest.exists():
            return None
    document = checksummed_json.loads(read_document(manifest, _HINT), str(manifest), _HINT)
    recorded = validate(CacheManifest, document, str(manifest), "manifest of a cache", _HINT)
    if recorded.key != key:
        raise DataFormatError(f"{manifest} belongs to the cache {recorded.key}, expected {key}; {_HINT}")
    found = {}
    for split in SPLITS:
        path, entry = directory / f"{split}.parquet", getattr(recorded.files, split)
        count_rows(read_verified(path, entry.sha256, _HINT, size=entry.size), str(path), _HINT)
        found[split] = FileDigest(str(path), entry.sha256, entry.size)
    return found


def build_cache(raw: RawDataset, key: str, directory: Path) -> Splits:
    """Write the Parquet files of both splits, and then the manifest; see `preprocess_dataset`."""
    splits = {}
    for split, table in _tables(raw, key):
        path = directory / f"{split}.parquet"
        with atomic_write(path) as file:
            pq.write_table(table, file, **LAYOUT)
        splits[split] = FileDigest(str(path), digest_of(path), path.stat().st_size)
    files = _Splits.model_validate(
        {split: {"sha256": file.sha256, "size": file.size} for split, file in splits.items()}
    )
    write_bytes(directory / MANIFEST, checksummed_json.dumps(CacheManifest(key=key, files=files).model_dump()))
    return splits


def _tables(raw: RawDataset, key: str) -> Iterator[tuple[str, pa.Table]]:
    """Yield the table of each split."""
    about: dict[str, Any] = {"dataset": raw.name, "key": key, "preprocess_version": PREPROCESS_VERSION}
    if raw.own is not None:
        from mnist_bp.data.own.source import read_own

        own = read_own(raw)
        about |= {"skipped": own.skipped, "test_split": asdict(own.rule) if own.rule else None}
        for split, examples in zip(SPLITS, (own.train, own.test), strict=True):
            yield split, split_table(examples.images, examples.labels, {**about, "split": split}, own.shape)
        return
    for split, (image_file, label_file) in zip(SPLITS, (raw.files[:2], raw.files[2:]), strict=True):
        images, labels = decode_idx(Path(image_file.path)), decode_idx(Path(label_file.path))
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max() > 9:
            raise DataFormatError(
                f"{raw.name} {split}: images {tuple(images.shape)} and labels {tuple(labels.shape)} up to "
                f"{labels.max()}; expected (N, 28, 28) and (N,) up to 9; delete {image_file.path} and run again"
            )
        described = {"dataset": raw.name, "split": split, "key": key, "preprocess_version": PREPROCESS_VERSION}
        yield split, split_table(images.contiguous().numpy(), labels.numpy(), described)


def _describe(
    raw: RawDataset, key: str, splits: Splits, cache: CacheOutcome, rebuilt: str | None = None
) -> CachedDataset:
    train, test = (pq.read_metadata(splits[split].path) for split in SPLITS)
    about = about_split(train)
    rule = about.get("test_split")
    return CachedDataset(
        raw.name,
        key,
        splits["train"],
        splits["test"],
        train.num_rows,
        test.num_rows,
        cache,
        rebuilt,
        raw.notice,
        shape_of(about),
        about.get("skipped", 0),
        SplitRule(**rule) if rule else None,
    )
