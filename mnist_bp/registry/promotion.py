"""Promotion: a published run challenges the champion of its dataset, and replaces it if it is better.

The champion file is changed first, then the promotion record is put. If the process is killed between the two, the
next attempt finds the change in the champion's history and makes the same record from it, byte for byte. So a run is
promoted at most once, however often this is repeated.

If the champion is damaged, there is no decision: the run stays published, the champion stays, no record is put, and the
same run challenges again with --resume once the champion is repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mnist_bp.documents import ChampionChange, GateFigures, PromotionOutcome, PromotionRecord
from mnist_bp.errors import ChampionError, ChecksumError, DataFormatError, StoreError
from mnist_bp.registry.champion import (
    MAX_ATTEMPTS,
    Champion,
    attempts,
    champion_key,
    describe_lost_champion_file,
    read_champion,
    swap_champion,
)
from mnist_bp.registry.comparison import EnginePredictor, Predictor, PublishedModel, read_published_model
from mnist_bp.registry.gate import GateDecision, GateSettings, decide
from mnist_bp.registry.promotion_record import lost_champion_files, read_promotion, record_promotion
from mnist_bp.results import CachedDataset, PublishedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

_UNSAFE: Final = (
    "this store ignores conditional writes, so if two runs are promoted at the same time, one may be lost: use a store "
    "that supports them (mnist-bp store check), or --allow-unsafe-promotion"
)


def promote_run(config: RunConfig, data: CachedDataset, published: PublishedRun) -> PromotionRecord:
    """Let a published run challenge the champion of its dataset. Can be repeated.

    Args:
        config: Configuration of the run, with the gate's settings and the store's address.
        data: The dataset; both are compared on its test split.
        published: The challenger.

    Raises:
        ChecksumError, DataFormatError: The challenger or its promotion record is damaged.
        StoreError: The store refused, the run is being removed, or other processes kept changing the champion.
    """
    store = open_store(config.artifacts)
    challenger = read_published_model(store, published.run_id, published.manifest_sha256)
    on_cpu = challenger.manifest.device == "cpu"
    predictor = EnginePredictor(store, data, challenger.manifest.engine if on_cpu else "auto")
    settings = GateSettings(config.significance, config.minimum_gain, config.class_floor)
    return promote(store, challenger, predictor, settings, allow_unsafe=config.allow_unsafe_promotion)


def promote(
    store: Store,
    challenger: PublishedModel,
    predictor: Predictor,
    settings: GateSettings,
    *,
    allow_unsafe: bool = False,
) -> PromotionRecord:
    """Decide, change the champion, and put the record; see `promote_run`.

    Args:
        store: Store with the champion and the challenger.
        challenger: The challenger.
        predictor: The test images that both are compared on.
        settings: Settings of the gate.
        allow_unsafe: Whether to change the champion even if the store ignores conditional writes.
    """
    recorded = read_promotion(store, challenger.run_id)
    if recorded is not None:
        return recorded
    dataset, run_id, current = challenger.dataset, challenger.run_id, None
    try:
        for _ in attempts():
            with _as_champion_error(f"the champion file of {dataset}"):
                champion = _read_existing_champion(store, dataset)
            current = champion.current.run_id if champion.current else None
            if (change := _change_to(champion, run_id)) is not None:
                return record_promotion(store, _promoted(champion, change))
            decision = _compare(store, champion, challenger, predictor, settings)
            reason, figures = decision.reason, decision.figures
            if not decision.promoted:
                return record_promotion(store, _not_promoted(challenger, "kept", current, reason, figures))
            if not store.supports_conditional_writes():
                figures = figures.model_copy(update={"unsafe": True})
                if not allow_unsafe:
                    reason = f"{reason}; but {_UNSAFE}"
                    return record_promotion(store, _not_promoted(challenger, "refused", current, reason, figures))
            after = champion.changed("promote", run_id, challenger.manifest_sha256, reason, figures)
            if swap_champion(store, after):
                return record_promotion(store, _promoted(after, after.history[-1]))
    except ChampionError as exc:
        reason = f"{exc}; then decide about {run_id} with --resume {run_id}"
        error = type(exc.__cause__).__name__
        return _not_promoted(challenger, "refused", current, reason).model_copy(update={"error": error})
    raise StoreError(
        f"{store.uri(champion_key(dataset))}: other processes changed the champion {MAX_ATTEMPTS} times while {run_id} "
        f"was compared with it; run with --resume {run_id}"
    )


def _read_existing_champion(store: Store, dataset: str) -> Champion:
    """Read a champion file. A missing file is accepted only if no promotion record names a champion.

    Raises:
        ChecksumError, DataFormatError: The file is damaged or lost; without this check, the next run would become
            champion even if it is worse.
    """
    champion = read_champion(store, dataset)
    if champion.version is None:
        former = lost_champion_files(store).get(dataset)
        if former is not None:
            raise DataFormatError(describe_lost_champion_file(store, dataset, former))
    return champion


def _change_to(champion: Champion, run_id: str) -> ChampionChange | None:
    """Find the change that made a run champion: by an attempt that was killed or lost its reply, or by a rollback.

    Raises:
        StoreError: The run was never champion, and is being removed.
    """
    for change in champion.history:
        if change.run_id == run_id:
            return change
    if run_id in champion.pending_deletion:
        raise StoreError(f"{run_id} cannot become champion of {champion.dataset}: mnist-bp gc is removing it")
    return None


def _compare(
    store: Store, champion: Champion, challenger: PublishedModel, predictor: Predictor, settings: GateSettings
) -> GateDecision:
    """Compare a challenger with the champion on the current test images of the dataset.

    Raises:
        ChampionError: Files of the champion are damaged or missing.
    """
    predicted, by_champion, trained_on = predictor.predict(challenger), None, predictor.key
    if (current := champion.current) is not None:
        hint = "; restore its files from a copy, or make another run champion with mnist-bp rollback"
        with _as_champion_error(f"the champion of {champion.dataset}, {current.run_id},", hint):
            model = read_published_model(store, current.run_id, current.manifest_sha256)
            by_champion = predictor.predict(model)
        trained_on = model.manifest.dataset.key
    decision = decide(predictor.labels, predicted, by_champion, settings)
    if trained_on == predictor.key:
        return decision
    figures = decision.figures.model_copy(update={"champion_dataset_key": trained_on})
    changed = f"compared on the present test images of {champion.dataset}, which have changed since the champion's run"
    return replace(decision, reason=f"{decision.reason}; {changed}", figures=figures)


@contextmanager
def _as_champion_error(what: str, hint: str = "") -> Iterator[None]:
    """Turn lasting errors into a ChampionError, and let transient ones pass.

    Args:
        what: What is being read.
        hint: What the user can do, if the error's message does not say it.

    Raises:
        ChampionError: A lasting error was raised inside.
    """
    try:
        yield
    except (ChecksumError, DataFormatError, StoreError) as exc:
        if exc.transient:
            raise
        raise ChampionError(f"{what} cannot be read: {exc}{hint}") from exc


def _promoted(champion: Champion, change: ChampionChange) -> PromotionRecord:
    """Make the record of a promotion, from the champion's history alone."""
    return PromotionRecord(
        run_id=change.run_id,
        dataset=champion.dataset,
        outcome="promoted",
        reason=change.reason,
        figures=change.figures,
        champion_before=champion.history[change.sequence - 1].run_id if change.sequence else None,
        champion_after=change.run_id,
        at=change.at,
    )


def _not_promoted(
    challenger: PublishedModel,
    outcome: PromotionOutcome,
    champion: str | None,
    reason: str,
    figures: GateFigures | None = None,
) -> PromotionRecord:
    """Make the record of a challenge that leaves the champion as it is."""
    return PromotionRecord(
        run_id=challenger.run_id,
        dataset=challenger.dataset,
        outcome=outcome,
        reason=reason,
        figures=figures,
        champion_before=champion,
        champion_after=champion,
        at=datetime.now(UTC).isoformat(),
    )
