"""The JSON documents that runs leave in a store: their fields, and how they are checked when they are read.

    runs/<run id>/manifest.json     Manifest
    runs/<run id>/promotion.json    PromotionRecord
    champion/<dataset>/<n>.json     LogEntry

This module is below the registry, which reads and writes the documents, because the HTML report also reads manifests.

Every document starts with its version and ends with its checksum. `parse` checks the checksum first, then the version,
then every field. An unknown field is refused: a change that adds a field also raises the version, so that an older
mnist-bp refuses the document by its version and does not ignore a part of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, JsonValue, PlainSerializer

from mnist_bp.errors import DataFormatError
from mnist_bp.results import ResumePoint, SeedStatistics
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.schema import Count, FileName, FrozenModel, Seconds, Sha256, Size, shown, validate

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998

Share = Annotated[float, Field(ge=0, le=1)]
"""In [0, 1]."""

MAX_SEQUENCE: Final = 99_999_999
EntryNumber = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]
"""Number of an entry in the log of a champion: eight digits in its key."""


def _in_calendar(value: datetime) -> datetime:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:  # in any time zone, it can still be represented
        raise ValueError(f"a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return value


Timestamp = Annotated[
    AwareDatetime, AfterValidator(_in_calendar), PlainSerializer(datetime.isoformat, when_used="json")
]
"""ISO 8601 with a time zone."""

Action = Literal["promote", "rollback", "restart", "delete", "deleted"]
"""What an entry of a champion's log records: a run passed the gate; it was chosen by hand; it was chosen by hand, and
the log starts again with it; runs will be deleted; they have been deleted.
"""

PromotionOutcome = Literal["promoted", "kept", "refused"]
"""The challenger became champion; the champion stays; there was no decision, or the store cannot record it safely."""

RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
"""Id of a run. It has no slash and no dot, so a key made from it cannot lead to another place."""

DatasetKey = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
"""Name of a dataset, a part of keys."""


class FileEntry(FrozenModel):
    """Digest and size (in bytes) of a file."""

    sha256: Sha256
    size: Size


class ParquetFiles(FrozenModel):
    """The two splits of a dataset after preprocessing."""

    train: FileEntry
    test: FileEntry


class DatasetEntry(FrozenModel):
    """The dataset that a run was trained on.

    Args:
        name: Its name, never `auto`.
        notice: Why the bundled sample replaces MNIST, or None.
        key: Digest of what its Parquet files were made from; see `mnist_bp.results.CachedDataset`.
        train_examples, test_examples: Rows of each split.
        sources: The downloaded files, by name.
        parquet: The preprocessed files.
    """

    name: DatasetKey
    notice: str | None
    key: str
    train_examples: Count
    test_examples: Count
    sources: dict[FileName, FileEntry]
    parquet: ParquetFiles


class Score(FrozenModel):
    """The scores of one model at one checkpoint; see `mnist_bp.results.CheckpointScore`."""

    seed: Count
    step: Count
    accuracy: Share
    lab_correct_of_1000: Count
    loss: float


class CheckpointEntry(Score):
    """A checkpoint of the run's own model.

    Args:
        file: Name of the safetensors file below the run's prefix.
        train_seconds: Training time up to this checkpoint.
        accuracy_per_class, validation_accuracy: See `mnist_bp.results.CheckpointScore`.
    """

    file: FileName
    train_seconds: Seconds
    accuracy_per_class: tuple[Share, ...]
    validation_accuracy: Share | None


class CodeEntry(FrozenModel):
    """Version of the package, and digest of its source files; see `mnist_bp.registry.manifest.code_sha256`."""

    version: str
    sha256: Sha256


class Manifest(FrozenModel):
    """A published run: how it was made, how good it is, and the digest of every file.

    Args:
        created: Start of the run, in UTC.
        config: The run's `RunConfig.record`.
        seed: The run's own model: of all `seeds`, the one with the best validation accuracy.
        seed_statistics: Test accuracies of the models of all seeds.
        validation_examples: Number of training examples that were held out.
        engine, device, certificate, train_seconds, resumed, steps_per_second: See `mnist_bp.results.TrainedRun`.
        checkpoints: Those of the run's own model, in order of step.
        confusion: See `mnist_bp.results.Evaluation`.
        files: Every published file except the manifest and promotion.json, by name below the run's prefix.
        environment: Versions of Python, the operating system and the libraries.
    """

    model_config = ConfigDict(title="manifest")

    manifest_version: Literal[2] = 2
    run_id: RunId
    created: Timestamp
    config: dict[str, JsonValue]
    dataset: DatasetEntry
    seed: Count
    seeds: tuple[Count, ...] = Field(min_length=1)
    seed_statistics: SeedStatistics
    validation_examples: Count
    engine: str
    device: str
    certificate: dict[str, JsonValue]
    train_seconds: Seconds
    resumed: tuple[ResumePoint, ...]
    steps_per_second: float
    checkpoints: tuple[CheckpointEntry, ...] = Field(min_length=1)
    confusion: tuple[tuple[Count, ...], ...]
    files: dict[FileName, FileEntry]
    code: CodeEntry
    environment: dict[str, str]

    @property
    def final(self) -> CheckpointEntry:
        """The checkpoint after the last step."""
        return self.checkpoints[-1]


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
    champion_dataset_key: str | None = None
    unsafe: bool = False


class EntryReference(FrozenModel):
    """Number and digest of an entry in the log of a dataset's champion."""

    sequence: EntryNumber
    sha256: Sha256


class PromotionRecord(FrozenModel):
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
        log_entry: The entry of the champion's log that records the promotion, or that the decision was based on; None
            if the log had none, or could not be read.
        at: Time of the decision, in UTC, ISO 8601.
    """

    model_config = ConfigDict(title="promotion record")

    promotion_version: Literal[3] = 3
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


class LogEntry(FrozenModel):
    """One entry in the log of a dataset's champion: an action, and the state that results; see `registry/champion.py`.

    Args:
        dataset: Name of the dataset.
        sequence: Number of the entry, from 0, without a gap from `start` on.
        start: Number of the first entry that belongs to the log: 0, or that of the last restart.
        previous: SHA-256 of the preceding entry's bytes; None for the first.
        action: See `Action`.
        run_id, manifest_sha256: The new champion and the digest of its manifest; None for a deletion.
        at: Time of the entry, in UTC, ISO 8601.
        nonce: Never used twice, so that no two entries have the same bytes.
        reason: One sentence.
        figures: The comparison, or None if nothing was compared.
        champions: The last changes of the champion, oldest first; the last one made the current champion.
        pending_deletion: Runs that `registry/gc.py` is removing.
    """

    model_config = ConfigDict(title="champion log entry")

    entry_version: Literal[1] = 1
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


DocumentT = TypeVar("DocumentT", Manifest, PromotionRecord, LogEntry)


def dumps(document: Manifest | PromotionRecord | LogEntry) -> bytes:
    """Encode a document with its checksum. Equal documents give equal bytes."""
    return checksummed_json.dumps(document.model_dump(mode="json"))


def parse(model: type[DocumentT], content: bytes, what: str, hint: str) -> DocumentT:
    """Decode a document and check its checksum, its version and every field.

    Args:
        model: The expected kind of document.
        content: Its bytes.
        what: URI or path of the document, for messages.
        hint: What the user can do about a damaged document.

    Raises:
        ChecksumError: The bytes are not those that were written.
        DataFormatError: The document has no checksum, another version, or a wrong field.
    """
    document = checksummed_json.loads(content, what, hint)
    version, field = next(iter(model.model_fields.items()))
    title = str(model.model_config["title"])
    if version not in document:
        raise DataFormatError(f"{what} is not a {title}: it has no {version}; {hint}")
    if document[version] != field.default:
        raise DataFormatError(
            f"{what} has {version} {shown(document[version])}, expected {field.default}: another version of mnist-bp "
            "wrote it; read it with that version"
        )
    return validate(model, document, what, title, hint)
