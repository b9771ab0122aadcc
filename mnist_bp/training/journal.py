"""The journal of a run: what it was started with, and what has been done since, one line with a checksum each.

    <data dir>/runs/<run id>/journal.jsonl

The first line is the start. A checkpoint gets a line once its file is durable, so a file without a line does not count.
So does a part of a run in parts, once its files are in the store and its scores are in a file of the run's directory.
A resumption gets a line too, which cancels the checkpoints after the step that it starts from. Reading stops at the
first line that a power cut tore or that was damaged since; what followed is trained again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.layout import checkpoint_path
from mnist_bp.results.common import FileDigest
from mnist_bp.results.training import CheckpointFile, ResumePoint
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.os_errors import reading_from, writing_to
from mnist_bp.storage.reading import open_regular, read_document
from mnist_bp.training.journal_state import CheckpointsByStep, JournalState, RecordedPart, RunStart

JOURNAL: Final = "journal.jsonl"
JOURNAL_VERSION: Final = 2

PARTS: Final = "scores"
"""Directory of the parts' scores, below the run's."""

_HINT: Final = "start a new run, without --resume"


class Journal:
    """The journal of one run. Write to it only while holding `workspace.lock_run`.

    Args:
        directory: The run's directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / JOURNAL

    def begin(self, start: RunStart) -> None:
        """Create the journal, atomically.

        Raises:
            StoreError: The disk is full, read-only or missing.
        """
        first = {"kind": "start", "journal_version": JOURNAL_VERSION, **asdict(start)}
        write_bytes(self.path, checksummed_json.dumps(first, indent=None))

    def resume(self, known: JournalState, point: ResumePoint, certificate: Mapping[str, Any]) -> None:
        """Record where the run is resumed from, and drop the lines that do not count, atomically.

        Args:
            known: What `read` returned.
            point: Step that training goes on from; the checkpoints after it are cancelled.
            certificate: Gradient check of the engine at the resumption.

        Raises:
            StoreError: The disk is full, read-only or missing.
        """
        entry = {"kind": "resumption", **asdict(point), "certificate": certificate}
        write_bytes(self.path, known.intact + checksummed_json.dumps(entry, indent=None))

    def add_checkpoint(self, point: CheckpointFile) -> None:
        """Append a checkpoint whose file is durable.

        Raises:
            StoreError: The disk is full or read-only, or the journal was removed; it is not created again.
        """
        about = {"step": point.step, "sha256": point.file.sha256, "size": point.file.size, "seconds": point.seconds}
        self._append({"kind": "checkpoint", **about})

    def add_part(self, part: RecordedPart) -> None:
        """Append a part whose files are in the store, and whose scores are durable.

        Raises:
            StoreError: As `add_checkpoint`.
        """
        self._append(
            {
                "kind": "part",
                "number": part.number,
                "files": [{"name": file.path, "sha256": file.sha256, "size": file.size} for file in part.files],
                "scores": {"sha256": part.scores.sha256, "size": part.scores.size},
                "elapsed": part.elapsed,
            }
        )

    def _append(self, entry: dict[str, Any]) -> None:
        line = checksummed_json.dumps(entry, indent=None)
        with writing_to(self.path), open_regular(self.path, os.O_RDWR) as file:
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def check_exists(self) -> None:
        """Check that the run has not been removed, before more of it is written.

        Raises:
            StoreError: It has been removed.
        """
        if not self.path.exists():
            raise StoreError(f"{self.path} is missing: the run was removed while it was in progress; start a new one")

    def read(self) -> JournalState | None:
        """Read the journal up to the first damaged line; None where there is no journal.

        Raises:
            ChecksumError, DataFormatError: The first line is damaged, or another version of mnist-bp wrote it.
            StoreError: The journal cannot be read.
        """
        with reading_from(self.path):
            if not self.path.exists():
                return None
            content = read_document(self.path, _HINT)
        first, *others = content.removesuffix(b"\n").split(b"\n")
        from mnist_bp.training.journal_lines import CheckpointLine, PartLine, parse_line

        start, intact, damage = self._start(first), [first], None
        checkpoints: CheckpointsByStep = {}
        parts: dict[int, RecordedPart] = {}
        resumed: list[ResumePoint] = []
        certificate = start.certificate
        for number, line in enumerate(others, start=2):
            where = f"{self.path}, line {number},"
            try:
                entry = parse_line(line, where)
            except (ChecksumError, DataFormatError) as exc:
                damage = str(exc)
                break
            intact.append(line)
            if isinstance(entry, CheckpointLine):
                file = FileDigest(str(checkpoint_path(self.directory, entry.step)), entry.sha256, entry.size)
                checkpoints[entry.step] = CheckpointFile(entry.step, file, entry.seconds)
            elif isinstance(entry, PartLine):
                files = tuple(FileDigest(file.name, file.sha256, file.size) for file in entry.files)
                scores = FileDigest(str(self.scores_path(entry.number)), entry.scores.sha256, entry.scores.size)
                parts[entry.number] = RecordedPart(entry.number, files, scores, entry.elapsed)
            else:
                resumed.append(ResumePoint(entry.step, entry.sha256, entry.at))
                certificate = entry.certificate
                checkpoints = {step: point for step, point in checkpoints.items() if step <= entry.step}
        content = b"\n".join(intact) + b"\n"
        return JournalState(start, checkpoints, tuple(resumed), certificate, content, damage, parts)

    def scores_path(self, number: int) -> Path:
        """Return the path of the scores of a part."""
        return self.directory / PARTS / f"part-{number:05d}.safetensors"

    def _start(self, line: bytes) -> RunStart:
        where = f"{self.path}, line 1,"
        entry = checksummed_json.loads(line + b"\n", where, _HINT)
        if entry.pop("kind", None) != "start":
            raise DataFormatError(f"{where} is not the start of a run; {_HINT}")
        if (version := entry.pop("journal_version", None)) != JOURNAL_VERSION:
            raise DataFormatError(
                f"{where} has journal_version {version}, expected {JOURNAL_VERSION}: another version of mnist-bp wrote "
                f"it; resume the run with that version, or {_HINT}"
            )
        from mnist_bp.training.journal_lines import check_start  # pydantic, which a new run does not need

        start = check_start(entry, where, _HINT)
        if start.run_id != self.directory.name:
            raise DataFormatError(f"{where} is the start of {start.run_id}, expected {self.directory.name}; {_HINT}")
        return start
