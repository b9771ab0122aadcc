"""The champion of a dataset: a pointer to its best run, and the history of all changes.

    <artifacts>/champion/<dataset>.json    ChampionFile, replaced as a whole by compare-and-swap

Each change in the history holds the digest of the change before it, so the history has no gap and no fork, and the
current champion always belongs to the history next to it. Each write has a nonce: if the reply to a write is lost,
reading the file shows whether the write was made.

`pending_deletion` lists runs that `registry/gc.py` is removing. It is set by the same compare-and-swap before the first
file is deleted, so no run can become champion once its removal has started.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from mnist_bp import documents
from mnist_bp.documents import Action, ChampionChange, ChampionFile, GateFigures
from mnist_bp.errors import DataFormatError
from mnist_bp.storage.interface import Store

CHAMPION: Final = "champion/"

MAX_ATTEMPTS: Final = 32
"""How often a change is decided again after another process has changed the champion first."""

_MAX_PAUSE_S: Final = 0.5
"""Longest pause between two attempts, in seconds; the first pauses are much shorter."""


@dataclass(frozen=True)
class Champion:
    """The contents of a champion file, and the version of the file that they were read from.

    Args:
        dataset: Name of the dataset.
        history: All changes, oldest first; empty before the first.
        pending_deletion: Runs that are being removed.
        nonce: Identifies the write that made the file.
        version: The store's version of the file, for the next swap; None if the file does not exist.
    """

    dataset: str
    history: tuple[ChampionChange, ...] = ()
    pending_deletion: tuple[str, ...] = ()
    nonce: str = ""
    version: str | None = None

    @property
    def current(self) -> ChampionChange | None:
        """The last change, which made the current champion; None before the first."""
        return self.history[-1] if self.history else None

    def changed(
        self, action: Action, run_id: str, manifest_sha256: str, reason: str, figures: GateFigures | None = None
    ) -> Champion:
        """Return the champion after one more change; see `ChampionChange` for the arguments."""
        last = self.current
        change = ChampionChange(
            sequence=last.sequence + 1 if last else 0,
            action=action,
            run_id=run_id,
            manifest_sha256=manifest_sha256,
            at=datetime.now(UTC).isoformat(),
            nonce=secrets.token_hex(16),
            reason=reason,
            figures=figures,
            previous=last.digest if last else None,
        )
        return replace(self, history=(*self.history, change))


def champion_key(dataset: str) -> str:
    """Return the key of a dataset's champion file in a store."""
    return f"{CHAMPION}{dataset}.json"


def describe_lost_champion_file(store: Store, dataset: str, run_id: str) -> str:
    """Describe a champion file that is missing although its dataset had a champion, and how to repair it.

    Args:
        store: Store that had the file.
        dataset: Name of the dataset.
        run_id: The last known champion.
    """
    return (
        f"{store.uri(champion_key(dataset))} is missing, and {run_id} was champion; restore it from a copy, or "
        f"{_start_again(dataset)}"
    )


def _start_again(dataset: str) -> str:
    return f"start a new history with mnist-bp rollback --dataset {dataset} RUN"


def list_champions(store: Store) -> list[str]:
    """List the datasets that have a champion file."""
    keys = [entry.key for entry in store.list_entries(CHAMPION) if entry.key.endswith(".json")]
    return [key.removeprefix(CHAMPION).removesuffix(".json") for key in keys]


def read_champion(store: Store, dataset: str) -> Champion:
    """Read a champion file, and check it and the digests in its history.

    Returns:
        Its contents; a champion without history if the file does not exist.

    Raises:
        ChecksumError, DataFormatError: The file is damaged; the message says how to repair it.
    """
    key = champion_key(dataset)
    found = store.read(key)
    if found is None:
        return Champion(dataset)
    uri = store.uri(key)
    hint = f"restore it from a copy, or delete it and then {_start_again(dataset)}"
    file = documents.parse(ChampionFile, found.content, uri, hint)
    digests = [None, *(change.digest for change in file.history)]
    for place, change in enumerate(file.history):
        if change.sequence != place or change.previous != digests[place]:
            raise DataFormatError(f"{uri}: its history is broken at change {place}; {hint}")
    if file.dataset != dataset:
        raise DataFormatError(f"{uri} is the champion file of {file.dataset}, expected {dataset}; {hint}")
    return Champion(dataset, file.history, file.pending_deletion, file.nonce, found.version)


def attempts() -> Iterator[int]:
    """Count the attempts at a swap, with growing pauses of random length between them."""
    for number in range(MAX_ATTEMPTS):
        if number:
            time.sleep(random.uniform(0, min(_MAX_PAUSE_S, 0.01 * 2 ** (number - 1))))  # noqa: S311 - no secret
        yield number


def swap_champion(store: Store, champion: Champion) -> bool:
    """Write a champion file if it is still the one that `champion` was read from.

    If the reply is lost, the file is read again: the nonce shows whether it was written.

    Returns:
        Whether it was written. If not, read the file and decide again. (If the write was made, its reply lost, and
        another write made since, the change is in the history.)

    Raises:
        StoreError: The reply was lost and the file could not be read, so it is unknown whether it was written.
    """
    key, nonce = champion_key(champion.dataset), secrets.token_hex(16)
    file = ChampionFile(
        dataset=champion.dataset, nonce=nonce, pending_deletion=champion.pending_deletion, history=champion.history
    )
    outcome = store.compare_and_swap(key, documents.dumps(file), champion.version)
    return outcome == "won" or (outcome == "unknown" and read_champion(store, champion.dataset).nonce == nonce)
