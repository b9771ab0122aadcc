"""Promotion: a published run challenges the champion of its dataset, and the pointer moves to it if it is better.

    <artifacts>/runs/<run id>/promotion.json    what was decided and why: with a checksum, put once

The pointer's history is written first, and is the truth: a promotion that was killed between the two is found there,
and its record made from it, byte for byte. A run is therefore promoted at most once, however often this is repeated.

What comes of a damaged champion is no decision: the run stays published and the champion what it was, nothing is
recorded, and the same run challenges again, by --resume, when the champion is repaired.
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
    ROUNDS,
    Champion,
    champion_key,
    pointer_is_gone,
    read_champion,
    rounds,
    swap_champion,
)
from mnist_bp.registry.comparison import EnginePredictor, Predictor, PublishedModel, read_published_model
from mnist_bp.registry.gate import GateDecision, GateSettings, decide
from mnist_bp.registry.promotion_record import lost_pointers, read_promotion, record_promotion
from mnist_bp.results import CachedDataset, PublishedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

_UNSAFE: Final = (
    "this store ignores conditional writes, so that of two runs at once one may be lost: use a store that honours them "
    "(mnist-bp store check), or --allow-unsafe-promotion"
)


def promote_run(config: RunConfig, data: CachedDataset, published: PublishedRun) -> PromotionRecord:
    """Let a published run challenge the champion of its dataset. May be repeated.

    Args:
        config: The gate's settings, and where the run was published.
        data: Its test split is what both are compared on.
        published: The challenger.

    Raises:
        ChecksumError, DataFormatError: The challenger, or what was decided about it before, is damaged.
        StoreError: The store refused, the run is being removed, or others moved the champion again and again.
    """
    store = open_store(config.artifacts)
    challenger = read_published_model(store, published.run_id, published.manifest_sha256)
    on_cpu = challenger.manifest.device == "cpu"
    examination = EnginePredictor(store, data, challenger.manifest.engine if on_cpu else "auto")
    rule = GateSettings(config.significance, config.minimum_gain, config.class_floor)
    return promote(store, challenger, examination, rule, allow_unsafe=config.allow_unsafe_promotion)


def promote(
    store: Store, challenger: PublishedModel, examiner: Predictor, rule: GateSettings, *, allow_unsafe: bool = False
) -> PromotionRecord:
    """Decide, move the pointer, and record it; see `promote_run`.

    Args:
        store: Where champions are kept and the challenger was published.
        challenger: Who.
        examiner: What both are compared on.
        rule: What is asked of the challenger.
        allow_unsafe: Whether to move the pointer where the store ignores conditions.
    """
    recorded = read_promotion(store, challenger.run_id)
    if recorded is not None:
        return recorded
    dataset, run_id, holder = challenger.dataset, challenger.run_id, None
    try:
        for _ in rounds():
            with _blaming_champion(f"the pointer to the champion of {dataset}"):
                champion = _read_pointer(store, dataset)
            holder = champion.current.run_id if champion.current else None
            if (change := _change_to(champion, run_id)) is not None:
                return record_promotion(store, _made(champion, change))
            decision = _compare(store, champion, challenger, examiner, rule)
            reason, figures = decision.reason, decision.figures
            if not decision.promoted:
                return record_promotion(store, _not_promoted(challenger, "kept", holder, reason, figures))
            if not store.supports_conditional_writes():
                figures = figures.model_copy(update={"unsafe": True})
                if not allow_unsafe:
                    reason = f"{reason}; but {_UNSAFE}"
                    return record_promotion(store, _not_promoted(challenger, "refused", holder, reason, figures))
            after = champion.changed("promote", run_id, challenger.manifest_sha256, reason, figures)
            if swap_champion(store, after):
                return record_promotion(store, _made(after, after.history[-1]))
    except ChampionError as exc:
        reason = f"{exc}; what has become of {run_id} is then decided with --resume {run_id}"
        error = type(exc.__cause__).__name__
        return _not_promoted(challenger, "refused", holder, reason).model_copy(update={"error": error})
    raise StoreError(
        f"{store.uri(champion_key(dataset))}: others changed the champion {ROUNDS} times while {run_id} was compared "
        f"with it; run with --resume {run_id}"
    )


def _read_pointer(store: Store, dataset: str) -> Champion:
    """Read a pointer; that there is none is believed only where no run tells of its promotion.

    Raises:
        ChecksumError, DataFormatError: It is damaged, or was lost: the next run, be it worse, would become champion.
    """
    champion = read_champion(store, dataset)
    if champion.version is None:
        former = lost_pointers(store).get(dataset)
        if former is not None:
            raise DataFormatError(pointer_is_gone(store, dataset, former))
    return champion


def _change_to(champion: Champion, run_id: str) -> ChampionChange | None:
    """Find the change that made a run champion: of an attempt that was killed, or whose reply was lost; or by hand.

    Raises:
        StoreError: It never was, and is being removed.
    """
    for change in champion.history:
        if change.run_id == run_id:
            return change
    if run_id in champion.pending_deletion:
        raise StoreError(f"{run_id} cannot become champion of {champion.dataset}: mnist-bp gc is removing it")
    return None


# ---------------------------------------------------------------------------------------------------------------------
# the comparison


def _compare(
    store: Store, champion: Champion, challenger: PublishedModel, examiner: Predictor, rule: GateSettings
) -> GateDecision:
    """Compare a challenger with the champion, on the test images of the dataset as it is now.

    Raises:
        ChampionError: The champion's own files are damaged or gone.
    """
    answers, of_champion = examiner.predict(challenger), None
    if (current := champion.current) is not None:
        remedy = "restore its files from a copy, or make another run champion with mnist-bp rollback"
        with _blaming_champion(f"the champion of {champion.dataset}, {current.run_id},", remedy):
            holder = read_published_model(store, current.run_id, current.manifest_sha256)
            of_champion = examiner.predict(holder)
    decision = decide(examiner.labels, answers, of_champion, rule)
    if current is None or holder.key == examiner.key:
        return decision
    figures = decision.figures.model_copy(update={"champion_dataset_key": holder.key})
    changed = f"on the test images of {champion.dataset} as it is now, not as the champion knew it"
    return replace(decision, reason=f"{decision.reason}; {changed}", figures=figures)


@contextmanager
def _blaming_champion(what: str, remedy: str = "") -> Iterator[None]:
    """Tell what is wrong with the champion from a fault of the store that may pass.

    Args:
        what: Is being read.
        remedy: What the user can do, where the message inside does not say it.

    Raises:
        ChampionError: In place of any lasting error raised inside.
    """
    try:
        yield
    except (ChecksumError, DataFormatError, StoreError) as exc:
        if exc.transient:
            raise
        raise ChampionError(f"{what} cannot be read: {exc}{'; ' if remedy else ''}{remedy}") from exc


# ---------------------------------------------------------------------------------------------------------------------
# what came of it


def _made(champion: Champion, change: ChampionChange) -> PromotionRecord:
    """Describe a promotion from its change in the history, and from nothing else."""
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
