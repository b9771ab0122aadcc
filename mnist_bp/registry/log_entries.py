"""The entries in the log of a champion: their keys, and what is checked when they are read.

<artifacts>/champion/<dataset>/00000042.json    LogEntry; put once, never changed
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mnist_bp.documents import encoding
from mnist_bp.documents.champion import LogEntry
from mnist_bp.errors import DataFormatError, StoreError
from mnist_bp.layout import CHAMPION
from mnist_bp.storage.interface import Store
from mnist_bp.storage.os_errors import RESTORE
from mnist_bp.storage.reading import sha256_of_bytes

_ENTRY: Final = re.compile(r"(\d{8})\.json")


def log_prefix(dataset: str) -> str:
    """Return the prefix of the keys of a dataset's log."""
    return f"{CHAMPION}{dataset}/"


def entry_key(dataset: str, sequence: int) -> str:
    """Return the key of an entry."""
    return f"{log_prefix(dataset)}{sequence:08}.json"


def restart_hint(dataset: str) -> str:
    """Return what the user can do about a broken log."""
    return (
        f"{RESTORE}, or, while no run is promoted and mnist-bp gc is not running, start the log again with "
        f"mnist-bp rollback RUN --restart-log --dataset {dataset}"
    )


def list_logs(store: Store) -> list[str]:
    """List the datasets that have a log.

    Raises:
        DataFormatError: An older mnist-bp wrote champion files to this store.
    """
    datasets = dict.fromkeys(_dataset_of(store, entry.key) for entry in store.list_entries(CHAMPION))
    return sorted(dataset for dataset in datasets if dataset)


def _dataset_of(store: Store, key: str) -> str | None:
    """Return the dataset that an entry belongs to, or None for a file that is not an entry."""
    dataset, slash, name = key.removeprefix(CHAMPION).rpartition("/")
    if not slash and name.endswith(".json"):
        raise DataFormatError(
            f"{store.uri(key)} was written by an older mnist-bp, which kept a champion in one file, expected a log in "
            f"{store.uri(log_prefix(name.removesuffix('.json')))}: choose another place (--artifacts)"
        )
    return dataset if _ENTRY.fullmatch(name) else None


def list_sequences(store: Store, dataset: str) -> list[int]:
    """List the numbers of the entries in a log, in order.

    Raises:
        DataFormatError: An older mnist-bp wrote the champion file of this dataset.
    """
    # without the slash, so that the file of an older version is in the listing too
    keys = [entry.key for entry in store.list_entries(f"{CHAMPION}{dataset}")]
    ours = [key for key in keys if key == f"{CHAMPION}{dataset}.json" or key.startswith(log_prefix(dataset))]
    return sorted(int(key[-13:-5]) for key in ours if _dataset_of(store, key) == dataset)


def read_entry(store: Store, dataset: str, sequence: int) -> tuple[LogEntry, str]:
    """Read one entry.

    Returns:
        The entry, and the SHA-256 of its bytes.

    Raises:
        ChecksumError, DataFormatError: The entry is damaged.
        StoreError: It cannot be read.
    """
    key = entry_key(dataset, sequence)
    content, uri, hint = store.get(key), store.uri(key), restart_hint(dataset)
    entry = encoding.parse(LogEntry, content, uri, hint)
    if (entry.dataset, entry.sequence) != (dataset, sequence) or entry.start > sequence:
        raise DataFormatError(
            f"{uri} is entry {entry.sequence} of {entry.dataset}, in a log from {entry.start} on; expected entry "
            f"{sequence} of {dataset}; {hint}"
        )
    return entry, sha256_of_bytes(content)


def first_missing(head: LogEntry, sequences: Iterable[int]) -> int | None:
    """Return the lowest number between the start of a log and its head that is not listed; None if all are."""
    expected = head.start
    for sequence in sequences:
        if sequence > expected:
            break
        expected += sequence == expected
    return expected if expected <= head.sequence else None


def check_gaps(store: Store, head: LogEntry, sequences: Iterable[int]) -> None:
    """Check that no entry between the start of a log and its head is missing.

    Raises:
        DataFormatError: An entry is missing.
    """
    missing = first_missing(head, sequences)
    if missing is not None:
        uri = store.uri(entry_key(head.dataset, missing))
        raise DataFormatError(f"{uri} is missing, and later entries exist; {restart_hint(head.dataset)}")


def check_succession(store: Store, entry: LogEntry, previous: str) -> None:
    """Compare the digest of the preceding entry with the one that an entry states.

    Raises:
        DataFormatError: They differ, so one of the two was replaced.
    """
    if entry.previous != previous:
        uri = store.uri(entry_key(entry.dataset, entry.sequence))
        raise DataFormatError(
            f"{uri} continues an entry {entry.sequence - 1} of SHA-256 {entry.previous}, found one of {previous}: one "
            f"of the two was replaced; {restart_hint(entry.dataset)}"
        )


def check_conditional_writes(store: Store, dataset: str, *, allow_unsafe: bool) -> None:
    """Refuse a change by hand on a store where it could replace the entry of another process.

    Raises:
        StoreError: The store ignores conditional writes, and the user has not accepted that.
    """
    if not allow_unsafe and not store.supports_conditional_writes():
        raise StoreError(
            f"{store.uri(log_prefix(dataset))}: this store ignores conditional writes, and a promotion at the same "
            "time would be lost; if no run is being promoted, use --allow-unsafe-promotion"
        )
