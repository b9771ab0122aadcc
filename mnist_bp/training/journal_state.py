"""What a journal says of a run: what it was started with, and what has been done since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnist_bp.data.own.address import is_own
from mnist_bp.errors import ConfigError
from mnist_bp.results.common import FileDigest
from mnist_bp.results.training import CheckpointFile, ResumePoint

CheckpointsByStep = dict[int, CheckpointFile]
"""Checkpoints of a run, in order of step."""


@dataclass(frozen=True)
class RecordedPart:
    """A part whose files are in the store.

    Args:
        number: Of the part.
        files: The files in the store, by name below the run's prefix, which is also their path here.
        scores: The file of its scores, on this machine.
        elapsed: Seconds that the run had taken when the part was recorded.
    """

    number: int
    files: tuple[FileDigest, ...]
    scores: FileDigest
    elapsed: float


@dataclass(frozen=True)
class RunStart:
    """What a run was started with, and is resumed with.

    Args:
        run_id: The run's id.
        config: The configuration as JSON; see `RunConfig.record`.
        dataset: Name of the dataset, never `auto`.
        dataset_key: Digest of what the dataset's cache was built from.
        dataset_notice: Why the bundled sample replaces MNIST, or None.
        seeds: One seed for each model.
        validation_examples: Number of examples held out at the end of the training split.
        engine: Name of the engine that computes the steps.
        device: Device that it computes on.
        engine_notice: Why this is not the engine that would have been chosen, or None.
        certificate: Gradient check of the engine before the first step.
        parts: Number of parts, or None for a run that is not in parts.
    """

    run_id: str
    config: Mapping[str, Any]
    dataset: str
    dataset_key: str
    dataset_notice: str | None
    seeds: tuple[int, ...]
    validation_examples: int
    engine: str
    device: str
    engine_notice: str | None
    certificate: Mapping[str, Any]
    parts: int | None = None

    def refuse_changes(self, given: Mapping[str, Any]) -> None:
        """Check that a run is resumed with the settings that it was started with.

        Args:
            given: Any of the settings, as JSON.

        Raises:
            ConfigError: Some differ; names each, with both values.
        """
        alternatives = {"dataset": self.dataset}  # what `auto` has become
        changed = [
            f"--{name.replace('_', '-')} {value} (started with {self.config[name]})"
            for name, value in given.items()
            if name in self.config and value not in (self.config[name], alternatives.get(name, self.config[name]))
        ]
        if changed:
            raise ConfigError(
                f"run {self.run_id} cannot be resumed with {', '.join(changed)}: leave that out, or start a new run "
                "without --resume"
            )

    def refuse_other_data(self, dataset: str, key: str) -> None:
        """Check that a run is resumed on the examples that it was started on.

        Args:
            dataset: Name of the dataset, never `auto`.
            key: Digest of what the dataset's cache was built from.

        Raises:
            ConfigError: The dataset is another one; names both.
        """
        if (dataset, key) != (self.dataset, self.dataset_key):
            cause = "another version of mnist-bp prepared; resume it with the version that it was started with"
            if is_own(place := str(self.config.get("dataset"))):
                cause = f"{place} has since its files were changed; restore them from a copy"
            raise ConfigError(
                f"run {self.run_id} was started on {self.dataset} with the key {self.dataset_key}, and cannot be "
                f"resumed on {dataset} with the key {key}, which {cause}, or start a new run"
            )


@dataclass(frozen=True)
class JournalState:
    """The contents of a journal.

    Args:
        start: The first line.
        checkpoints: As recorded; whether the files are still intact is not checked.
        resumed: Where the run was resumed from, oldest first.
        certificate: The latest one: an engine is certified again whenever a run is resumed.
        intact: The lines that count, as bytes.
        damage: Which line is the first that does not count, and why, or None.
        parts: As recorded, by number; whether the files are still intact is not checked.
    """

    start: RunStart
    checkpoints: CheckpointsByStep
    resumed: tuple[ResumePoint, ...]
    certificate: Mapping[str, Any]
    intact: bytes
    damage: str | None
    parts: Mapping[int, RecordedPart]
