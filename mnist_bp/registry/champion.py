"""The champion of a dataset: a pointer to its best run, changed by compare-and-swap, with all its changes chained.

    <artifacts>/champion/<dataset>.json

One document with a checksum holds the whole history, oldest change first, and each change the digest of the one before
it. It is swapped as a whole, so the history can have no gap and no fork, and a reader always finds the champion that
goes with it. A change carries a nonce: whoever lost the reply to a swap finds out by reading whether it was made.

`pending_deletion` names runs that `registry/gc.py` is removing. It is set by the same compare-and-swap before the first
file goes, so no run can become champion once its removal has begun, whoever reads what in whichever order.
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

ROUNDS: Final = 32
"""How often one may find that another has moved the pointer; each time one decides anew."""

_LONGEST_WAIT: Final = 0.5
"""Seconds between two rounds at most; half of what is waited on average, and little in the first rounds."""


@dataclass(frozen=True)
class Champion:
    """What the pointer of a dataset says.

    Args:
        dataset: Whose champion.
        history: All changes, oldest first; empty only before the first.
        pending_deletion: Runs that are being removed.
        nonce: Of the write that it was read from.
        version: Of the store, for the next swap; None where there is no pointer yet.
    """

    dataset: str
    history: tuple[ChampionChange, ...] = ()
    pending_deletion: tuple[str, ...] = ()
    nonce: str = ""
    version: str | None = None

    @property
    def current(self) -> ChampionChange | None:
        """The change that made the champion what it is; None before the first."""
        return self.history[-1] if self.history else None

    def changed(
        self, action: Action, run_id: str, manifest_sha256: str, reason: str, figures: GateFigures | None = None
    ) -> Champion:
        """Return what the pointer is to say after another change."""
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
    """Name the pointer of a dataset in a store."""
    return f"{CHAMPION}{dataset}.json"


def pointer_is_gone(store: Store, dataset: str, run_id: str) -> str:
    """Say that a dataset's pointer is gone.

    Args:
        store: Where it was.
        dataset: Whose.
        run_id: The last that is known to have been champion.
    """
    return (
        f"{store.uri(champion_key(dataset))} is gone, and {run_id} was champion; restore it from a copy, or "
        f"{_choose_one(dataset)}"
    )


def _choose_one(dataset: str) -> str:
    return f"begin a new history with mnist-bp rollback --dataset {dataset} RUN"


def list_champions(store: Store) -> list[str]:
    """Name the datasets that have a pointer."""
    keys = [entry.key for entry in store.list_entries(CHAMPION) if entry.key.endswith(".json")]
    return [key.removeprefix(CHAMPION).removesuffix(".json") for key in keys]


def read_champion(store: Store, dataset: str) -> Champion:
    """Read a pointer after proving it and its chain.

    Returns:
        What it says; one without history where there is no pointer yet.

    Raises:
        ChecksumError, DataFormatError: It is damaged; says how to repair it.
    """
    key = champion_key(dataset)
    found = store.read(key)
    if found is None:
        return Champion(dataset)
    uri = store.uri(key)
    remedy = f"restore it from a copy, or delete it and then {_choose_one(dataset)}"
    file = documents.parse(ChampionFile, found.content, uri, remedy)
    digests = [None, *(change.digest for change in file.history)]
    for place, change in enumerate(file.history):
        if change.sequence != place or change.previous != digests[place]:
            raise DataFormatError(f"{uri}: its history breaks at change {place}; {remedy}")
    if file.dataset != dataset:
        raise DataFormatError(f"{uri} is the pointer of {file.dataset}, expected {dataset}; {remedy}")
    return Champion(dataset, file.history, file.pending_deletion, file.nonce, found.version)


def rounds() -> Iterator[int]:
    """Count attempts at a swap, with ever longer pauses of random length between them."""
    for number in range(ROUNDS):
        if number:
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.01 * 2 ** (number - 1))))  # noqa: S311 - no secret
        yield number


def swap_champion(store: Store, champion: Champion) -> bool:
    """Write a pointer if it is still the one that `champion` came from.

    Where the reply is lost, what is there now tells: a write is known by its nonce.

    Returns:
        Whether it was written. If not, decide again from what is there now: where our write was made, its reply lost,
        and another made on top of it, our change is found in the history.

    Raises:
        StoreError: The reply was lost and reading failed, too: whether it was written is not known.
    """
    key, nonce = champion_key(champion.dataset), secrets.token_hex(16)
    file = ChampionFile(
        dataset=champion.dataset, nonce=nonce, pending_deletion=champion.pending_deletion, history=champion.history
    )
    outcome = store.compare_and_swap(key, documents.dumps(file), champion.version)
    return outcome == "won" or (outcome == "unknown" and read_champion(store, champion.dataset).nonce == nonce)
