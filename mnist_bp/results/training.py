"""Results of training: checkpoints, and the run as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnist_bp.results.common import FileDigest


@dataclass(frozen=True)
class CheckpointFile:
    """The weights of a run's models after a number of steps.

    Args:
        step: Steps taken.
        file: The safetensors file.
        seconds: Training time up to this checkpoint.
    """

    step: int
    file: FileDigest
    seconds: float


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that an interrupted run was resumed from.

    Args:
        step: Steps taken at this checkpoint.
        sha256: Digest of the checkpoint; None for step 0, whose weights come from the seed.
        at: Time of the resumption, in UTC, ISO 8601.
    """

    step: int
    sha256: str | None
    at: str


@dataclass(frozen=True)
class StoredParts:
    """The parts of a run, whose files are in the store already; see `mnist_bp.training.parts`.

    Args:
        models: Number of models of all parts.
        files: The files in the store, by name below the run's prefix, which is also their path here.
        scores: The file of scores of each part, on this machine.
    """

    models: int
    files: Mapping[str, FileDigest]
    scores: tuple[FileDigest, ...]


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training has ended.

    Args:
        run_id: Sorts by time, never reused.
        directory: Path of the run directory.
        config: The configuration that the run was started with, JSON-ready; see `RunConfig.record`. Of a sweep, the
            settings that are swept have the values of the run's own model.
        seeds: One for each model; of a sweep, one for each model of a combination of settings.
        validation_examples: Number of examples at the end of the training split that were held out.
        engine: Name of the engine.
        device: Name of the device that the engine ran on.
        certificate: The gradient check of the engine before the first step, or before the first step after the last
            resumption; see `mnist_bp.engines.certificate`.
        checkpoints: In order of step; of a run in parts, those of the run's model alone.
        seconds: Training time: shuffling and steps, without reading data or writing checkpoints. Of a run in parts,
            the time until all were trained, scored and stored.
        resumed: The checkpoints that the run was resumed from, oldest first.
        parts: The other files of a run in parts; None for any other run.
        seed: Of the run's own model, if the run is in parts.
    """

    run_id: str
    directory: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    validation_examples: int
    engine: str
    device: str
    certificate: dict[str, Any]
    checkpoints: tuple[CheckpointFile, ...]
    seconds: float
    resumed: tuple[ResumePoint, ...] = ()
    parts: StoredParts | None = None
    seed: int | None = None

    @property
    def models(self) -> int:
        """Number of models."""
        return len(self.seeds) if self.parts is None else self.parts.models

    def place(self, seed: int) -> int:
        """Return which of the models in each checkpoint file is the run's own, of the given seed."""
        return self.seeds.index(seed) if self.parts is None else 0

    @property
    def steps(self) -> int:
        """Steps taken by each model."""
        return self.checkpoints[-1].step

    @property
    def steps_per_second(self) -> float:
        """Mean speed of training, counting the steps of all models."""
        return self.steps * self.models / self.seconds
