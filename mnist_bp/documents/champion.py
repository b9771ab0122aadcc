"""The champion of a dataset: the entries of its log, and the promotion records of its challengers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from mnist_bp.documents.encoding import Document
from mnist_bp.documents.fields import AliasName, DatasetKey, RunId, Share
from mnist_bp.storage.schema import FrozenModel, Sha256

MAX_SEQUENCE: Final = 99_999_999
EntryNumber = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]
"""Number of an entry in the log of a champion: eight digits in its key."""

Action = Literal["promote", "keep", "rollback", "restart", "delete", "deleted", "alias", "unalias"]
"""What an entry of a champion's log records: a run passed the gate; a run did not, and the champion stays; a run was
chosen by hand; it was chosen by hand, and the log starts again with it; runs will be deleted; they have been deleted;
an alias names a run; an alias was removed.
"""

PromotionOutcome = Literal["promoted", "kept", "refused"]
"""The challenger became champion; the champion stays; there was no decision, or the store cannot record it safely."""


class GateFigures(FrozenModel):
    """Everything that the gate compared. Fields about the champion are None for the first challenger of a dataset.

    Args:
        test_images: N.
        champion_accuracy, challenger_accuracy: Share of the test images that each classifies correctly.
        gain: Accuracy of the challenger minus that of the champion.
        champion_alone_right: b, the number of images that only the champion classifies correctly.
        challenger_alone_right: c, the number of images that only the challenger classifies correctly.
        p_value: Exact, one-sided.
        challenger_per_class: Share of each class's images that the challenger classifies correctly; None for a class
            without images.
        significance, minimum_gain, class_floor: See `mnist_bp.registry.gate.GateSettings`.
        challenge: k, if this is the k-th challenge to the champion; None if challenges were not counted yet.
        allowed_p: Largest accepted p at this challenge; None if it was the significance.
        champion_dataset_key: Key of the champion's dataset, if the comparison used other test images.
        unsafe: Whether the store ignores conditional writes.
    """

    test_images: int
    champion_accuracy: Share | None
    challenger_accuracy: Share
    gain: float | None
    champion_alone_right: int | None
    challenger_alone_right: int | None
    p_value: float | None
    challenger_per_class: tuple[Share | None, ...]
    significance: float
    minimum_gain: float
    class_floor: float
    challenge: Annotated[int, Field(ge=1)] | None = None
    allowed_p: float | None = None
    champion_dataset_key: str | None = None
    unsafe: bool = False

    @property
    def largest_p(self) -> float:
        """Largest accepted p at this challenge."""
        return self.significance if self.allowed_p is None else self.allowed_p


class EntryReference(FrozenModel):
    """Number and digest of an entry in the log of a dataset's champion."""

    sequence: EntryNumber
    sha256: Sha256


class PromotionRecord(Document):
    """The result of a run's challenge to the champion of its dataset.

    Args:
        run_id: The challenger.
        dataset: Name of the dataset.
        outcome: See `PromotionOutcome`.
        reason: One sentence.
        figures: The comparison, or None if nothing was compared.
        error: Name of the error that prevented a decision, or None.
        champion_before: Run id of the champion that was challenged; None for the first challenger.
        champion_after: Run id of the champion after the decision; None if no champion exists.
        log_entry: The entry of the champion's log that records the decision, or that it was based on; None if the log
            had none, or could not be read.
        at: Time of the decision, in UTC, ISO 8601.
    """

    model_config = ConfigDict(title="promotion record")

    promotion_version: Literal[3, 4] = 4
    run_id: RunId
    dataset: DatasetKey
    outcome: PromotionOutcome
    reason: str
    figures: GateFigures | None = None
    error: str | None = None
    champion_before: RunId | None
    champion_after: RunId | None
    log_entry: EntryReference | None = None
    at: str


class ChampionChange(FrozenModel):
    """One change of the champion, as later entries of the log repeat it.

    Args:
        sequence: Number of the entry that made the change, which also has the reason and all figures.
        action: See `Action`; never a deletion.
        run_id: The new champion.
        manifest_sha256: Digest of its manifest, which holds the digests of its files.
        at: Time of the change, in UTC, ISO 8601.
        accuracy, p_value: Of the comparison; None for a rollback.
    """

    sequence: EntryNumber
    action: Action
    run_id: RunId
    manifest_sha256: Sha256
    at: str
    accuracy: Share | None
    p_value: float | None


class Challenge(FrozenModel):
    """A challenge that the champion withstood, as later entries of the log repeat it.

    Args:
        sequence: Number of the entry that records it.
        run_id: The challenger.
    """

    sequence: EntryNumber
    run_id: RunId


class LogEntry(Document):
    """One entry in the log of a dataset's champion: an action, and the state that results; see `registry/champion.py`.

    Args:
        dataset: Name of the dataset.
        sequence: Number of the entry, from 0, without a gap from `start` on.
        start: Number of the first entry that belongs to the log: 0, or that of the last restart.
        previous: SHA-256 of the preceding entry's bytes; None for the first.
        action: See `Action`.
        run_id, manifest_sha256: The new champion, or the challenger that did not become it, and the digest of its
            manifest, or the run that an alias names; None for a deletion and for the removal of an alias.
        at: Time of the entry, in UTC, ISO 8601.
        nonce: Never used twice, so that no two entries have the same bytes.
        reason: One sentence.
        figures: The comparison, or None if nothing was compared.
        champions: The last changes of the champion, oldest first; the last one made the current champion.
        pending_deletion: Runs that `registry/gc.py` is removing.
        challenges: How many challenges the current champion has withstood since it became champion.
        withstood: The last challenges that a champion withstood, oldest first.
        aliases: The runs that have an alias, by alias.
    """

    model_config = ConfigDict(title="champion log entry")

    entry_version: Literal[1, 2, 3] = 3
    dataset: DatasetKey
    sequence: EntryNumber
    start: EntryNumber
    previous: Sha256 | None
    action: Action
    run_id: RunId | None
    manifest_sha256: Sha256 | None
    at: str
    nonce: str
    reason: str
    figures: GateFigures | None
    champions: tuple[ChampionChange, ...]
    pending_deletion: tuple[RunId, ...]
    challenges: Annotated[int, Field(ge=0)] = 0
    withstood: tuple[Challenge, ...] = ()
    aliases: dict[AliasName, RunId] = Field(default_factory=dict)
