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
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from mnist_bp.documents import encoding
from mnist_bp.documents.champion import Action, Challenge, ChampionChange, EntryReference, GateFigures, LogEntry
from mnist_bp.errors import ChecksumError, ConflictError, DataFormatError, StoreError
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

MAX_CHAMPIONS: Final = 32
"""Changes of the champion that an entry repeats."""

MAX_WITHSTOOD: Final = 32
"""Challenges that an entry repeats. A run that was killed before its promotion record was put is found among them when
it is resumed; after more challenges than these, it challenges again, as a further challenge.
"""

MAX_ATTEMPTS: Final = 100
"""How often a change is decided again after another process has added an entry first: every run that ends at the same
moment adds one.
"""

_MAX_PAUSE_S: Final = 0.5
"""Longest pause between two attempts, in seconds; the first pauses are much shorter."""


@dataclass(frozen=True)
class ChampionLog:
    """The log of a dataset's champion: its head, and the state after it.

    Args:
        dataset: Name of the dataset.
        sequence: Number of the head; -1 if the log is empty.
        start: Number of the first entry that belongs to the log.
        sha256: SHA-256 of the head's bytes; None if no entry comes before the next one.
        champions: The last changes of the champion, oldest first.
        pending_deletion: Runs that are being removed.
        challenges: How many challenges the current champion has withstood since it became champion.
        withstood: The last challenges that a champion withstood, oldest first.
        aliases: The runs that have an alias, by alias.
    """

    dataset: str
    sequence: int = -1
    start: int = 0
    sha256: str | None = None
    champions: tuple[ChampionChange, ...] = ()
    pending_deletion: tuple[str, ...] = ()
    challenges: int = 0
    withstood: tuple[Challenge, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def current(self) -> ChampionChange | None:
        """The change that made the current champion; None before the first."""
        return self.champions[-1] if self.champions else None

    @property
    def reference(self) -> EntryReference | None:
        """Number and digest of the head."""
        return EntryReference(sequence=self.sequence, sha256=self.sha256) if self.sha256 else None

    @property
    def named(self) -> frozenset[str]:
        """The runs that must be kept: the current champion, and those that have an alias."""
        return frozenset([*([self.current.run_id] if self.current else []), *self.aliases.values()])

    def check_not_pending(self, run_id: str) -> None:
        """Refuse a run that is being removed as the new champion, and for an alias.

        Raises:
            StoreError: The run is in `pending_deletion`.
        """
        if run_id in self.pending_deletion:
            raise StoreError(
                f"{run_id} cannot be chosen for {self.dataset}: mnist-bp gc is removing it, or mnist-bp delete is; "
                "choose another run"
            )

    def with_champion(
        self, action: Action, run_id: str, manifest_sha256: str, reason: str, figures: GateFigures | None = None
    ) -> LogEntry:
        """Return the next entry, which makes a run champion; see `LogEntry` for the arguments."""
        entry = self._next(action, reason)
        change = ChampionChange(
            sequence=entry.sequence,
            action=action,
            run_id=run_id,
            manifest_sha256=manifest_sha256,
            at=entry.at,
            accuracy=figures and figures.challenger_accuracy,
            p_value=figures and figures.p_value,
        )
        changes = {"run_id": run_id, "manifest_sha256": manifest_sha256, "figures": figures, "challenges": 0}
        return entry.model_copy(update={**changes, "champions": (*self.champions, change)[-MAX_CHAMPIONS:]})

    def with_challenge(self, run_id: str, manifest_sha256: str, reason: str, figures: GateFigures) -> LogEntry:
        """Return the next entry, which records a challenge that the champion withstood; see `LogEntry`."""
        entry = self._next("keep", reason)
        withstood = (*self.withstood, Challenge(sequence=entry.sequence, run_id=run_id))[-MAX_WITHSTOOD:]
        changes = {"run_id": run_id, "manifest_sha256": manifest_sha256, "figures": figures}
        return entry.model_copy(update={**changes, "challenges": self.challenges + 1, "withstood": withstood})

    def with_pending(self, action: Action, reason: str, pending_deletion: tuple[str, ...]) -> LogEntry:
        """Return the next entry, which changes the runs that are being removed."""
        return self._next(action, reason).model_copy(update={"pending_deletion": pending_deletion})

    def with_alias(self, alias: str, run_id: str, manifest_sha256: str, reason: str) -> LogEntry:
        """Return the next entry, after which an alias names a run; see `LogEntry` for the arguments."""
        changes = {"run_id": run_id, "manifest_sha256": manifest_sha256, "aliases": {**self.aliases, alias: run_id}}
        return self._next("alias", reason).model_copy(update=changes)

    def without_alias(self, alias: str, reason: str) -> LogEntry:
        """Return the next entry, after which an alias names no run."""
        rest = {name: run_id for name, run_id in self.aliases.items() if name != alias}
        return self._next("unalias", reason).model_copy(update={"aliases": rest})

    def _next(self, action: Action, reason: str) -> LogEntry:
        return LogEntry(
            dataset=self.dataset,
            sequence=self.sequence + 1,
            start=self.start,
            previous=self.sha256,
            action=action,
            run_id=None,
            manifest_sha256=None,
            at=datetime.now(UTC).isoformat(),
            nonce=secrets.token_hex(16),
            reason=reason,
            figures=None,
            champions=self.champions,
            pending_deletion=self.pending_deletion,
            challenges=self.challenges,
            withstood=self.withstood,
            aliases=dict(self.aliases),
        )


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


def find_champions(store: Store) -> tuple[set[str], list[str]]:
    """Return the run ids of all champions, and a message about each log that is damaged."""
    logs, problems = read_logs(store)
    return {log.current.run_id for log in logs if log.current}, problems


def aliases_by_run(logs: Iterable[ChampionLog]) -> dict[str, list[str]]:
    """Return the aliases of every run that has one, by run id."""
    found: dict[str, list[str]] = {}
    for log in logs:
        for alias, run_id in sorted(log.aliases.items()):
            found.setdefault(run_id, []).append(alias)
    return found


def log_after(head: LogEntry, sha256: str) -> ChampionLog:
    """Return the log whose head is an entry of these bytes."""
    return ChampionLog(
        dataset=head.dataset,
        sequence=head.sequence,
        start=head.start,
        sha256=sha256,
        champions=head.champions,
        pending_deletion=head.pending_deletion,
        challenges=head.challenges,
        withstood=head.withstood,
        aliases=head.aliases,
    )


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
