"""The state of a champion's log, as its head states it, and the entries that can follow: no store is read or changed.

`mnist_bp.registry.champion` reads logs and adds entries.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from mnist_bp.documents.champion import Action, Challenge, ChampionChange, EntryReference, GateFigures, LogEntry
from mnist_bp.errors import StoreError

MAX_CHAMPIONS: Final = 32
"""Changes of the champion that an entry repeats."""

MAX_WITHSTOOD: Final = 32
"""Challenges that an entry repeats. A run that was killed before its promotion record was put is found among them when
it is resumed; after more challenges than these, it challenges again, as a further challenge.
"""


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


def aliases_by_run(logs: Iterable[ChampionLog]) -> dict[str, list[str]]:
    """Return the aliases of every run that has one, by run id."""
    found: dict[str, list[str]] = {}
    for log in logs:
        for alias, run_id in sorted(log.aliases.items()):
            found.setdefault(run_id, []).append(alias)
    return found
