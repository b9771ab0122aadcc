"""The champion of a dataset: the head of an append-only log.

    <artifacts>/champion/<dataset>/00000042.json    LogEntry; put once, never changed

Every change is a separate entry: a promotion, a challenge that the champion withstood, a rollback, the move of an
alias, or the deletion of runs. Its key is the next number, and a store gives a key to the first process that puts it,
so of several changes at the same time one succeeds, and the others read the log and decide again. An entry states the
digest of the entry before it and the state that results. So the entry with the highest number, the head, is all that a
reader needs: one listing finds it.

The gate needs the number of challenges since the champion became champion. It is part of the state, so no two
challenges have the same number, and the deletion of runs and of their promotion records does not change it.

No reader trusts a log with a missing number, or a head that does not continue the entry before it. Such a log can be
restarted by hand: with a further entry, whose `start` is its own number. Entries before it no longer count.

Source: the logs of Delta Lake (M. Armbrust et al., "Delta Lake: High-Performance ACID Table Storage over Cloud Object
Stores", PVLDB 13(12), 2020).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from mnist_bp.documents import encoding
from mnist_bp.documents.champion import LogEntry
from mnist_bp.errors import ChecksumError, ConflictError, DataFormatError
from mnist_bp.registry.champion_state import ChampionLog, log_after
from mnist_bp.registry.log_entries import (
    check_gaps,
    check_succession,
    entry_key,
    first_missing,
    list_logs,
    list_sequences,
    read_entry,
)
from mnist_bp.storage.interface import Store
from mnist_bp.storage.parallel import in_parallel
from mnist_bp.storage.reading import sha256_of_bytes

MAX_ATTEMPTS: Final = 100
"""How often a change is decided again after another process has added an entry first: every run that ends at the same
moment adds one.
"""

_MAX_PAUSE_S: Final = 0.5
"""Longest pause between two attempts, in seconds; the first pauses are much shorter."""


def read_log(store: Store, dataset: str) -> ChampionLog:
    """Read the head of a log, and check that the log is whole and the head continues it.

    Returns:
        The log, empty if it has no entry.

    Raises:
        ChecksumError, DataFormatError: The log is damaged; the message says how to repair it.
    """
    sequences = list_sequences(store, dataset)
    if not sequences:
        return ChampionLog(dataset)
    head, sha256 = read_entry(store, dataset, sequences[-1])
    if first_missing(head, sequences) is not None:
        sequences = list_sequences(store, dataset)  # the listing of a directory is not of one moment
    check_gaps(store, head, sequences)
    if head.sequence > head.start:
        check_succession(store, head, sha256_of_bytes(store.get(entry_key(dataset, head.sequence - 1))))
    return log_after(head, sha256)


def read_logs(store: Store) -> tuple[list[ChampionLog], list[str]]:
    """Read the logs of all datasets.

    Returns:
        The logs, and a message about each that is damaged.
    """
    logs, problems = [], []
    try:
        datasets = list_logs(store)
    except DataFormatError as exc:
        return [], [str(exc)]
    for dataset in datasets:
        try:
            logs.append(read_log(store, dataset))
        except (ChecksumError, DataFormatError) as exc:
            problems.append(str(exc))
    return logs, problems


def read_history(store: Store, log: ChampionLog) -> dict[int, tuple[LogEntry, str]]:
    """Read every entry of a log from its start on, and check that each continues the one before it.

    Returns:
        By number, the entries and the SHA-256 of their bytes.

    Raises:
        ChecksumError, DataFormatError: An entry is damaged or was replaced.
        StoreError: An entry cannot be read.
    """
    numbers = range(log.start, log.sequence + 1)
    read = list(in_parallel(lambda sequence: read_entry(store, log.dataset, sequence), numbers))
    for (_, before), (entry, _) in pairwise(read):
        check_succession(store, entry, before)
    return dict(zip(numbers, read, strict=True))


def attempts() -> Iterator[int]:
    """Count the attempts to add an entry, with growing pauses of random length between them."""
    for number in range(MAX_ATTEMPTS):
        if number:
            time.sleep(random.uniform(0, min(_MAX_PAUSE_S, 0.01 * 2 ** (number - 1))))  # noqa: S311 - no secret
        yield number


def append(store: Store, entry: LogEntry) -> ChampionLog | None:
    """Add an entry to a log, if its number is still free.

    Returns:
        The log with the entry as its head; None if another process was faster: read the log and decide again.

    Raises:
        StoreError: It is unknown whether the entry was added, since the store could not be read after a lost reply.
    """
    content = encoding.dumps(entry)
    sha256 = sha256_of_bytes(content)
    try:
        store.put(entry_key(entry.dataset, entry.sequence), content, sha256)
    except ConflictError:
        return None
    return log_after(entry, sha256)
