"""Rollback: make an earlier champion, or any other run of the dataset, champion by hand, without the gate.

Every file of the run is checked before the champion changes. The change is added to the history by the same
compare-and-swap as a promotion, and nothing is removed from the history, so a rollback can be rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import RUNS
from mnist_bp.registry.champion import (
    CHAMPION,
    Champion,
    attempts,
    champion_key,
    describe_lost_champion_file,
    list_champions,
    read_champion,
    swap_champion,
)
from mnist_bp.registry.comparison import PublishedModel, read_published_model
from mnist_bp.registry.promotion_record import lost_champion_files
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class Rollback:
    """The result of a rollback.

    Args:
        dataset: Name of the dataset.
        champion_before, champion_after: Run ids; equal if the run already was champion, and nothing was changed.
    """

    dataset: str
    champion_before: str | None
    champion_after: str


def roll_back(
    store: Store, run_id: str | None = None, dataset: str | None = None, *, allow_unsafe: bool = False
) -> Rollback:
    """Make another run the champion.

    Args:
        store: Store with the champion and the run.
        run_id: The new champion; by default the run that was champion before the current one.
        dataset: The dataset; by default that of the run, or the only one with a champion.
        allow_unsafe: Whether to change the champion even if the store ignores conditional writes.

    Raises:
        ConfigError: The dataset is ambiguous, or the run is of another dataset.
        ChecksumError, DataFormatError: The champion file or a file of the run is damaged; the champion stays.
        StoreError: The run does not exist, no earlier champion exists, the store ignores conditional writes, or another
            process changed the champion in the meantime.
    """
    target = read_published_model(store, run_id) if run_id is not None else None
    dataset = dataset or _choose_dataset(store, target)
    champion = read_champion(store, dataset)
    target = target or _previous_champion(store, champion)
    if target.dataset != dataset:
        raise ConfigError(f"{target.run_id} is a run of {target.dataset}, expected one of {dataset}; see mnist-bp runs")
    before = champion.current.run_id if champion.current else None
    if before != target.run_id:
        if not allow_unsafe and not store.supports_conditional_writes():
            raise StoreError(
                f"{store.uri(champion_key(dataset))}: this store ignores conditional writes, and a promotion at the "
                "same time would be lost; if no run is being promoted, use --allow-unsafe-promotion"
            )
        check_files(store, target)
        _change_champion(store, champion, target)
    return Rollback(dataset, before, target.run_id)


def _change_champion(store: Store, champion: Champion, target: PublishedModel) -> None:
    """Change the champion, as long as it is the one that the user wanted to replace."""
    seen, dataset = champion.current, champion.dataset
    reason = f"chosen by hand, in place of {seen.run_id if seen else 'none'}"
    for _ in attempts():
        if target.run_id in champion.pending_deletion:
            raise StoreError(f"{target.run_id} cannot become champion of {dataset}: mnist-bp gc is removing it")
        after = champion.changed("rollback", target.run_id, target.manifest_sha256, reason)
        if swap_champion(store, after):
            return
        champion = read_champion(store, dataset)
        if after.history[-1].nonce in [change.nonce for change in champion.history]:
            return  # the change was made, its reply lost, and another change made since
        if champion.current != seen:
            break
    raise StoreError(
        f"{store.uri(champion_key(dataset))}: another process changed it in the meantime, and the champion is "
        f"{champion.current.run_id if champion.current else 'none'}; see mnist-bp champion, and decide again"
    )


def check_files(store: Store, run: PublishedModel) -> None:
    """Read every file of a run and compare it with the digest in the manifest.

    Raises:
        ChecksumError: A file is damaged.
        StoreError: A file is missing.
    """
    for name, file in run.manifest.files.items():
        store.get(f"{RUNS}{run.run_id}/{name}", file.sha256)


def _choose_dataset(store: Store, target: PublishedModel | None) -> str:
    present = list_champions(store)
    if target is not None and target.dataset in present:
        return target.dataset
    known = sorted({*present, *lost_champion_files(store)})
    if target is None and len(known) == 1:
        return known[0]
    if target is not None and (not known or target.dataset in known):
        return target.dataset
    what = f"there are champions of {', '.join(known)}" if known else f"there is no champion in {store.uri(CHAMPION)}"
    if target is None:
        raise ConfigError(f"{what}: name one with --dataset, or name the new champion")
    raise ConfigError(
        f"{target.run_id} is a run of {target.dataset}, and {what}; expected a run of one of these, or, to give "
        f"{target.dataset} its first champion, --dataset {target.dataset}"
    )


def _previous_champion(store: Store, champion: Champion) -> PublishedModel:
    """Find the run that was champion before the current one."""
    current = champion.current
    if current is None:
        if former := lost_champion_files(store).get(champion.dataset):
            raise StoreError(describe_lost_champion_file(store, champion.dataset, former))
        raise StoreError(f"{store.uri(champion_key(champion.dataset))}: {champion.dataset} has no champion yet")
    earlier = [change for change in champion.history if change.run_id != current.run_id]
    if not earlier:
        raise StoreError(
            f"{current.run_id} is the first champion of {champion.dataset}, so no earlier one exists; name a run, "
            "see mnist-bp runs"
        )
    return read_published_model(store, earlier[-1].run_id, earlier[-1].manifest_sha256)
