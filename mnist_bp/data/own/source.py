"""The user's own images: found and hashed at every run, and decoded when their cache is missing.

Nothing is copied into the data directory but the cache, which is keyed by the content of all files. So a change of a
file gives a new cache, and a run that is resumed on other images is refused.
"""

from __future__ import annotations

from mnist_bp.data.own.classes import OwnData
from mnist_bp.data.own.idx import find_idx, read_idx
from mnist_bp.data.own.images import find_images, read_images
from mnist_bp.results.common import Progress
from mnist_bp.results.dataset import OwnSource, RawDataset


def find_own(name: str, source: OwnSource, on_progress: Progress | None = None) -> RawDataset:
    """Return the digests of the user's own files.

    Args:
        name: Name of the dataset; see `mnist_bp.data.own.address.dataset_name`.
        source: Where the files are.
        on_progress: Called with the amount read, the total, and a note.

    Raises:
        DataFormatError: The files have another layout.
        StoreError: They are missing or unreadable.
    """
    on_progress = on_progress or (lambda *_: None)
    if source.kind == "images":
        files = find_images(source, on_progress)
    elif source.kind == "idx":
        files = find_idx(source)
    else:
        from mnist_bp.data.own.tables import find_tables  # pyarrow

        files = find_tables(source, on_progress)
    return RawDataset(name, files, "hit", own=source)


def read_own(raw: RawDataset) -> OwnData:
    """Read and check the user's own images.

    Args:
        raw: Result of `find_own`.

    Raises:
        DataFormatError: They cannot be used, or changed since they were found; states why.
        StoreError: They are missing or unreadable.
    """
    source = raw.own
    assert source is not None
    if source.kind == "images":
        return read_images(source, raw.files[0])
    if source.kind == "idx":
        return read_idx(source, raw.files)
    from mnist_bp.data.own.tables import read_tables

    return read_tables(source, raw.files[0])
