"""Promotion: a published run challenges the champion of its dataset, and replaces it if it is better.

The decision is added to the champion's log first, then the promotion record is put. If the process is killed between
the two, the next attempt finds the decision in the log and makes the same record from it, byte for byte. So a run is
promoted, or counted as a challenge, at most once, however often this is repeated, as long as the head of the log still
repeats the decision. After that, a run counts as a further challenge, which only makes the gate stricter.

If the champion is damaged, there is no decision: the run stays published, the champion stays, no record is put, and the
same run challenges again with --resume once the champion is repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mnist_bp.documents.champion import EntryReference, GateFigures, LogEntry, PromotionOutcome, PromotionRecord
from mnist_bp.errors import ChampionError, ChecksumError, ConfigError, DataFormatError, StoreError
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import MAX_ATTEMPTS, append, attempts, read_log
from mnist_bp.registry.champion_state import ChampionLog
from mnist_bp.registry.comparison import (
    EnginePredictor,
    Predictor,
    PublishedModel,
    read_published_model,
    shape_difference,
)
from mnist_bp.registry.gate import GateDecision, GateSettings, decide
from mnist_bp.registry.log_entries import entry_key, log_prefix, read_entry
from mnist_bp.registry.promotion_record import read_promotion, record_promotion, refuse_lost_log
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.publication import PublishedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.os_errors import RESTORE

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
    for _ in attempts():
        record = _challenge(store, challenger, predictor, settings, allow_unsafe=allow_unsafe)
        if record is not None:
            return record
    raise StoreError(
        f"{store.uri(log_prefix(challenger.dataset))}: other processes changed the champion {MAX_ATTEMPTS} times while "
        f"{challenger.run_id} was compared with it; run with --resume {challenger.run_id}"
    )


def _challenge(
    store: Store, challenger: PublishedModel, predictor: Predictor, settings: GateSettings, *, allow_unsafe: bool
) -> PromotionRecord | None:
    """Read the log, decide, and add the entry; return None if another process has added one in the meantime."""
    dataset, run_id, log = challenger.dataset, challenger.run_id, ChampionLog(challenger.dataset)
    try:
        with _as_champion_error(f"the champion of {dataset}"):
            log = read_log(store, dataset)
            if allow_unsafe or log.sequence >= 0 or store.supports_conditional_writes():
                refuse_lost_log(store, log)  # otherwise the run is refused in any case
            earlier = _earlier_decision(store, log, run_id)
        if earlier is not None:
            return record_promotion(store, _decided(*earlier))
        log.check_not_pending(run_id)
        read_manifest(store, run_id, challenger.manifest_sha256)  # a collection may have begun and ended since
        decision = _compare(store, log, challenger, predictor, settings)
    except ChampionError as exc:
        reason = f"{exc}; then decide about {run_id} with --resume {run_id}"
        error = type(exc.__cause__).__name__
        return _not_promoted(challenger, "refused", log, reason).model_copy(update={"error": error})
    except ConfigError as exc:
        return _not_promoted(challenger, "refused", log, str(exc)).model_copy(update={"error": "ConfigError"})
    entry = _entry_of(store, log, challenger, decision, allow_unsafe=allow_unsafe)
    if isinstance(entry, PromotionRecord):
        return record_promotion(store, entry)
    after = append(store, entry)
    if after is None or after.reference is None:
        return None
    return record_promotion(store, _decided(entry, after.reference))


def _entry_of(
    store: Store, log: ChampionLog, challenger: PublishedModel, decision: GateDecision, *, allow_unsafe: bool
) -> LogEntry | PromotionRecord:
    """Return the entry that a decision adds to the log, or the record without one if the store cannot add it safely.

    Such a challenge cannot promote the run, whatever its figures are, so it needs no number in the log.
    """
    reason, figures, run = decision.reason, decision.figures, (challenger.run_id, challenger.manifest_sha256)
    safe = store.supports_conditional_writes()
    if not decision.promoted:
        if safe or allow_unsafe:
            return log.with_challenge(*run, reason, figures)
        return _not_promoted(challenger, "kept", log, reason, figures)
    if not safe:
        figures = figures.model_copy(update={"unsafe": True})
        if not allow_unsafe:
            return _not_promoted(challenger, "refused", log, f"{reason}; but {_UNSAFE}", figures)
    return log.with_champion("promote", *run, reason, figures)


def _earlier_decision(store: Store, log: ChampionLog, run_id: str) -> tuple[LogEntry, EntryReference] | None:
    """Find the entry about a run: by an attempt that was killed or lost its reply, or by a rollback."""
    numbers = [change.sequence for change in log.champions if change.run_id == run_id]
    numbers += [challenge.sequence for challenge in log.withstood if challenge.run_id == run_id]
    for sequence in numbers[:1]:
        entry, sha256 = read_entry(store, log.dataset, sequence)
        if entry.run_id != run_id or not entry.champions:
            raise DataFormatError(
                f"{store.uri(entry_key(log.dataset, sequence))} is about {entry.run_id}, and later entries say "
                f"{run_id}: it was replaced; {RESTORE}"
            )
        return entry, EntryReference(sequence=sequence, sha256=sha256)
    return None


def _compare(
    store: Store, log: ChampionLog, challenger: PublishedModel, predictor: Predictor, settings: GateSettings
) -> GateDecision:
    """Compare a challenger with the champion on the current test images of the dataset.

    Raises:
        ChampionError: Files of the champion are damaged or missing.
        ConfigError: It was trained on images of another size, or with other classes.
    """
    predicted, by_champion, trained_on = predictor.predict(challenger), None, predictor.key
    if (current := log.current) is not None:
        hint = "; restore its files from a copy, or make another run champion with mnist-bp rollback"
        with _as_champion_error(f"the champion of {log.dataset}, {current.run_id},", hint):
            model = read_published_model(store, current.run_id, current.manifest_sha256)
            _refuse_other_shape(model, challenger)
            by_champion = predictor.predict(model)
        trained_on = model.manifest.dataset.key
    names, challenge = challenger.manifest.dataset.shape.class_names, log.challenges + 1
    decision = decide(predictor.labels, predicted, by_champion, settings, challenge, len(names), names)
    if trained_on == predictor.key:
        return decision
    figures = decision.figures.model_copy(update={"champion_dataset_key": trained_on})
    changed = f"compared on the present test images of {log.dataset}, which have changed since the champion's run"
    return replace(decision, reason=f"{decision.reason}; {changed}", figures=figures)


def _refuse_other_shape(champion: PublishedModel, challenger: PublishedModel) -> None:
    """Refuse to compare models of two datasets that have one name, but images of two sizes, or other classes.

    Raises:
        ConfigError: They have.
    """
    name = champion.dataset
    if difference := shape_difference(champion.manifest.dataset.shape, challenger.manifest.dataset.shape):
        raise ConfigError(
            f"the champion of {name}, {champion.run_id}, was trained on another dataset of that name, {difference}: "
            "name the directory of your images differently, or publish under another --artifacts"
        )


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


def _decided(entry: LogEntry, reference: EntryReference) -> PromotionRecord:
    """Make the record of a decision from its entry in the log alone."""
    *before, current = entry.champions
    kept = entry.action == "keep"
    champion_before = current if kept else before[-1] if before else None
    return PromotionRecord(
        run_id=entry.run_id or current.run_id,
        dataset=entry.dataset,
        outcome="kept" if kept else "promoted",
        reason=entry.reason,
        figures=entry.figures,
        champion_before=champion_before and champion_before.run_id,
        champion_after=current.run_id,
        log_entry=reference,
        at=entry.at,
    )


def _not_promoted(
    challenger: PublishedModel,
    outcome: PromotionOutcome,
    log: ChampionLog,
    reason: str,
    figures: GateFigures | None = None,
) -> PromotionRecord:
    """Make the record of a challenge that leaves the log as it is."""
    champion = log.current.run_id if log.current else None
    return PromotionRecord(
        run_id=challenger.run_id,
        dataset=challenger.dataset,
        outcome=outcome,
        reason=reason,
        figures=figures,
        champion_before=champion,
        champion_after=champion,
        log_entry=log.reference,
        at=datetime.now(UTC).isoformat(),
    )
