"""A run's journal: what it was started with, and what was done since, one line with a checksum after the other.

    <data dir>/runs/<run id>/journal.jsonl

The first line is the start. A checkpoint gets a line once its file is durable, so a line proves a file, and a file
without a line proves nothing. Lines are only ever added. One that a power cut tore, or that was damaged since, is not
counted, and named; of two lines about one step, the later counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError, StoreError
from mnist_bp.layout import checkpoint_path
from mnist_bp.results import CheckpointFile, FileDigest, ResumePoint
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import reading_from, write_bytes, writing_to

JOURNAL: Final = "journal.jsonl"
JOURNAL_VERSION: Final = 2

_REMEDY: Final = "start the run anew, without --resume"


@dataclass(frozen=True)
class RunStart:
    """What a run was started with, and is continued with.

    Args:
        run_id: Its id.
        config: The configuration, as JSON has it; see `RunConfig.record`.
        dataset: Which dataset it really is (never `auto`).
        dataset_key: Digest of what the dataset's cache was made from.
        dataset_notice: Why the bundled sample stands in for MNIST, or None.
        seeds: One for each model.
        validation_examples: How many examples at the end of the training split are held out.
        engine: Which engine computes the steps.
        device: Where.
        engine_notice: Why it is not the one that would have been chosen, or None.
        certificate: What proved the engine right before the first step.
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

    def refuse_changes(self, given: Mapping[str, Any]) -> None:
        """Refuse to continue the run with other settings than it was started with.

        Args:
            given: Settings, any of them, as JSON has them.

        Raises:
            ConfigError: Names each that differs, and both values.
        """
        alternatives = {"dataset": self.dataset}  # what `auto` has become
        changed = [
            f"--{name.replace('_', '-')} {value} (started with {self.config[name]})"
            for name, value in given.items()
            if name in self.config and value not in (self.config[name], alternatives.get(name, self.config[name]))
        ]
        if changed:
            raise ConfigError(
                f"run {self.run_id} cannot be continued with {', '.join(changed)}: leave that out, or start a new run "
                "without --resume"
            )

    def refuse_other_data(self, dataset: str, key: str) -> None:
        """Refuse to continue the run on other examples than it was started on.

        Raises:
            ConfigError: Names both datasets.
        """
        if (dataset, key) != (self.dataset, self.dataset_key):
            raise ConfigError(
                f"run {self.run_id} was started on {self.dataset} with the key {self.dataset_key}, and cannot be "
                f"continued on {dataset} with the key {key}: another version of mnist-bp prepares it otherwise; "
                "continue it with the version it was started with, or start a new run"
            )


@dataclass(frozen=True)
class JournalState:
    """What a journal tells.

    Args:
        start: Its first line.
        checkpoints: By step; that the files are still what they were is for the reader to find out.
        resumed: What the run was continued from, oldest first.
        certificate: The latest: an engine is certified again before it continues.
        damage: For every line that is not counted, where it is and why.
    """

    start: RunStart
    checkpoints: dict[int, CheckpointFile]
    resumed: tuple[ResumePoint, ...]
    certificate: Mapping[str, Any]
    damage: tuple[str, ...]


class Journal:
    """The journal of one run. To be written to only while `run_directory.lock_run` it.

    Args:
        directory: The run's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / JOURNAL

    def begin(self, start: RunStart) -> None:
        """Make the journal, whole or not at all.

        Raises:
            StoreError: The disk is full, read-only or gone.
        """
        first = {"kind": "start", "journal_version": JOURNAL_VERSION, **asdict(start)}
        write_bytes(self.path, checksummed_json.dumps(first, indent=None))

    def add_checkpoint(self, point: CheckpointFile) -> None:
        """Record a checkpoint whose file is durable; see `_append`."""
        about = {"step": point.step, "sha256": point.file.sha256, "size": point.file.size, "seconds": point.seconds}
        self._append({"kind": "checkpoint", **about})

    def add_resumption(self, point: ResumePoint, certificate: Mapping[str, Any]) -> None:
        """Record what the run is continued from, and that its engine was certified again; see `_append`."""
        self._append({"kind": "resumption", **asdict(point), "certificate": certificate})

    def check_there(self) -> None:
        """Find out that the run was removed before more of it is written.

        Raises:
            StoreError: It was.
        """
        if not self.path.exists():
            raise StoreError(f"{self.path} is gone: the run was removed while it was being made; start a new one")

    def read(self) -> JournalState | None:
        """Read everything that is intact; None where there is no journal.

        Raises:
            ChecksumError, DataFormatError: The first line is damaged, without which nothing can be continued.
            StoreError: It cannot be read.
        """
        with reading_from(self.path):
            if not self.path.exists():
                return None
            first, *others = self.path.read_bytes().removesuffix(b"\n").split(b"\n")
        start = self._start(first)
        checkpoints: dict[int, CheckpointFile] = {}
        resumed: list[ResumePoint] = []
        certificate, damage = start.certificate, []
        for number, line in enumerate(others, start=2):
            try:
                entry = checksummed_json.loads(line + b"\n", f"{self.path}, line {number},", "it is not counted")
            except (ChecksumError, DataFormatError) as exc:
                damage.append(str(exc))
                continue
            if entry["kind"] == "checkpoint":
                step, path = entry["step"], checkpoint_path(self._directory, entry["step"])
                file = FileDigest(str(path), entry["sha256"], entry["size"])
                checkpoints[step] = CheckpointFile(step, file, entry["seconds"])
            elif entry["kind"] == "resumption":
                resumed.append(ResumePoint(entry["step"], entry["sha256"], entry["at"]))
                certificate = entry["certificate"]
        return JournalState(start, checkpoints, tuple(resumed), certificate, tuple(damage))

    def _start(self, line: bytes) -> RunStart:
        entry = checksummed_json.loads(line + b"\n", f"{self.path}, line 1,", _REMEDY)
        if (entry.pop("kind", None), found := entry.pop("journal_version", None)) != ("start", JOURNAL_VERSION):
            raise DataFormatError(
                f"{self.path} does not begin as a run's journal of version {JOURNAL_VERSION} does "
                f"(found version {found}); {_REMEDY}"
            )
        return RunStart(**{**entry, "seeds": tuple(entry["seeds"])})

    def _append(self, entry: Mapping[str, Any]) -> None:
        """Add a line, durably.

        Raises:
            StoreError: The disk is full or read-only, or the journal was removed: a new one is not begun.
        """
        line = checksummed_json.dumps(entry, indent=None)
        with writing_to(self.path), self.path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # what a writer that died has left of a line is not to spoil this one
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
