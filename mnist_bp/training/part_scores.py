"""The scores of a run in parts: a file of each part in the run's directory, and all of them as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from mnist_bp.errors import DataFormatError
from mnist_bp.results.common import FileDigest
from mnist_bp.results.evaluation import ModelScores, ScoreColumns
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.reading import read_verified
from mnist_bp.training.parts import Part

COLUMNS: Final = tuple(ScoreColumns.__dataclass_fields__)


def save_scores(path: Path, scores: ScoreColumns) -> FileDigest:
    """Write the scores of a part to a file, atomically.

    Raises:
        StoreError: The disk is full, read-only or missing.
    """
    content = safetensors.numpy.save(asdict(scores))
    return FileDigest(str(path), write_bytes(path, content), len(content))


def load_scores(file: FileDigest, part: Part) -> ScoreColumns:
    """Verify the digest of a file, then read the scores of a part.

    Raises:
        ChecksumError: The bytes differ from the digest.
        DataFormatError: They are not the scores of this part.
        StoreError: The file is missing or unreadable.
    """
    content = read_verified(Path(file.path), file.sha256, size=file.size)
    try:
        columns = safetensors.numpy.load(content)
        scores = ScoreColumns(**columns)
        shape = (len(part.checkpoint_steps), len(part.members))
        if any(column.dtype != np.float64 or column.shape[:2] != shape for column in columns.values()):
            raise ValueError(f"expected columns of float64 with the shape {shape}")
    except Exception as exc:  # safetensors raises errors of many types, some of them undocumented
        raise DataFormatError(f"{file.path} has no scores of part {part.number}: {exc}; train the run again") from exc
    return scores


def gather_scores(parts: Sequence[Part], files: Sequence[FileDigest]) -> ModelScores:
    """Read the scores of all parts of a run into one table, in the order of the parts.

    Args:
        parts: All parts of the run.
        files: The file of scores of each.

    Raises:
        ChecksumError, DataFormatError, StoreError: As `load_scores`.
    """
    scores = [load_scores(file, part) for part, file in zip(parts, files, strict=True)]
    members = [member for part in parts for member in part.members]
    places: dict[tuple[object, ...], int] = {}
    combination = [places.setdefault(tuple(member.settings.values()), len(places)) for member in members]
    names = tuple(members[0].settings)

    def column(name: str) -> npt.NDArray[np.float64]:
        return np.concatenate([getattr(each, name) for each in scores], axis=1)

    return ModelScores(
        settings=tuple(dict(zip(names, values, strict=True)) for values in places),
        combination=np.array(combination, np.int64),
        seeds=np.array([member.seed for member in members], np.int64),
        steps=parts[0].checkpoint_steps,
        **{name: column(name) for name in COLUMNS},
    )
