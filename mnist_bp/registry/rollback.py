"""Rollback: an earlier run, or any other of the same dataset, is made champion by hand. It need not pass the gate.

Every file of that run is proved before the pointer moves. It moves by the same compare-and-swap as a promotion, on top
of the history, from which nothing is ever taken away: a rollback can be rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnist_bp.documents import ChampionChange
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import RUNS
from mnist_bp.registry.champion import (
    CHAMPION,
    Champion,
    champion_key,
    list_champions,
    pointer_is_gone,
    read_champion,
    rounds,
    swap_champion,
)
from mnist_bp.registry.comparison import PublishedModel, read_published_model
from mnist_bp.registry.promotion_record import lost_pointers
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class Rollback:
    """What a rollback did.

    Args:
        dataset: Whose champion.
        champion_before, champion_after: Run ids; equal where that run was the champion already, and nothing was done.
    """

    dataset: str
    champion_before: str | None
    champion_after: str


def roll_back(
    store: Store, run_id: str | None = None, dataset: str | None = None, *, allow_unsafe: bool = False
) -> Rollback:
    """Make another run the champion.

    Args:
        store: Where champions are kept.
        run_id: Which run; by default the one that was champion before the current one.
        dataset: Whose champion; by default that of the run, or the only one there is.
        allow_unsafe: Whether to move the pointer where the store ignores conditions.

    Raises:
        ConfigError: It is not clear which dataset is meant, or the run is of another one.
        ChecksumError, DataFormatError: The pointer or a file of the run is damaged; the champion stays.
        StoreError: There is no such run, or none before; the store ignores conditions; or another process changed the
            champion in the meantime.
    """
    target = read_published_model(store, run_id) if run_id is not None else None
    dataset = _dataset_meant(store, target, dataset)
    champion = read_champion(store, dataset)
    target = target or _previous(store, champion)
    if target.dataset != dataset:
        raise ConfigError(f"{target.run_id} is a run of {target.dataset}, expected one of {dataset}; see mnist-bp runs")
    before = champion.current.run_id if champion.current else None
    if before != target.run_id:
        if not allow_unsafe and not store.supports_conditional_writes():
            raise StoreError(
                f"{store.uri(champion_key(dataset))}: this store ignores conditional writes, and a promotion at the "
                "same time would be lost; where there is none, use --allow-unsafe-promotion"
            )
        prove_files(store, target)
        _move(store, champion, target)
    return Rollback(dataset, before, target.run_id)


def _move(store: Store, champion: Champion, target: PublishedModel) -> None:
    """Swap the pointer, so long as the champion is the one that the user meant to replace."""
    seen, dataset = champion.current, champion.dataset
    reason = f"chosen by hand, in place of {seen.run_id if seen else 'none'}"
    for _ in rounds():
        if target.run_id in champion.pending_deletion:
            raise StoreError(f"{target.run_id} cannot become champion of {dataset}: mnist-bp gc is removing it")
        after = champion.changed("rollback", target.run_id, target.manifest_sha256, reason)
        if swap_champion(store, after):
            return
        champion = read_champion(store, dataset)
        if after.history[-1].nonce in [change.nonce for change in champion.history]:
            return  # it was made, the reply lost, and more made on top of it
        if champion.current != seen:
            break
    raise StoreError(
        f"{store.uri(champion_key(dataset))}: others changed it in the meantime, and the champion is "
        f"{champion.current.run_id if champion.current else 'none'}; look with mnist-bp champion, and decide again"
    )


def prove_files(store: Store, run: PublishedModel) -> None:
    """Read every file of a run against the digest in its manifest.

    Raises:
        ChecksumError: One is damaged.
        StoreError: One is gone.
    """
    for name, file in run.manifest.files.items():
        store.get(f"{RUNS}{run.run_id}/{name}", file.sha256)


def _dataset_meant(store: Store, target: PublishedModel | None, dataset: str | None) -> str:
    if dataset is not None:
        return dataset
    there = list_champions(store)
    if target is not None and target.dataset in there:
        return target.dataset
    known = sorted({*there, *lost_pointers(store)})
    if target is None and len(known) == 1:
        return known[0]
    if target is not None and (not known or target.dataset in known):
        return target.dataset
    what = f"there are champions of {', '.join(known)}" if known else f"there is no champion in {store.uri(CHAMPION)}"
    if target is None:
        raise ConfigError(f"{what}: name one with --dataset, or the run to go back to")
    raise ConfigError(
        f"{target.run_id} is a run of {target.dataset}, and {what}; expected a run of one of these, or, to give "
        f"{target.dataset} its first champion, --dataset {target.dataset}"
    )


def _previous(store: Store, champion: Champion) -> PublishedModel:
    """Find the run that was champion before the current one."""
    current = champion.current
    if current is None:
        if former := lost_pointers(store).get(champion.dataset):
            raise StoreError(pointer_is_gone(store, champion.dataset, former))
        raise StoreError(f"{store.uri(champion_key(champion.dataset))}: {champion.dataset} has no champion yet")
    before: ChampionChange | None = None
    for change in champion.history:
        if change.run_id != current.run_id:
            before = change
    if before is None:
        raise StoreError(
            f"{current.run_id} is the first champion of {champion.dataset}: there is none before it; name a run, "
            "see mnist-bp runs"
        )
    return read_published_model(store, before.run_id, before.manifest_sha256)
