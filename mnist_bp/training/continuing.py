"""What is left of a run that was broken off, what is missing, and with which engine it is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from mnist_bp.engines.choose import same_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError, StoreError
from mnist_bp.results import CheckpointFile, ResumePoint
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.journal import JournalState, RunStart
from mnist_bp.training.loop import checkpoint_steps

if TYPE_CHECKING:
    from mnist_bp.config import RunConfig

logger = logging.getLogger(__name__)

Points = dict[int, CheckpointFile]
"""Checkpoints by step."""

Pieces = Sequence[tuple[int, int]]
"""Ranges of steps, each from one checkpoint (0: from the initial weights) to the next."""


def intact_points(known: JournalState, config: RunConfig) -> Points:
    """Return those checkpoints of a run that are what its journal says; the others are skipped with a warning."""
    points = {}
    for step in checkpoint_steps(config):
        if point := known.checkpoints.get(step):
            try:
                load_checkpoint(point.file)
            except (ChecksumError, DataFormatError, StoreError) as exc:
                logger.warning(f"the checkpoint of step {step:,} is skipped, and made again: {exc}")
            else:
                points[step] = point
    return points


def missing_pieces(config: RunConfig, points: Points) -> Pieces:
    """List what is still to be trained: for each checkpoint that is missing, the range of steps that leads to it."""
    return [piece for piece in pairwise(chain([0], checkpoint_steps(config))) if piece[1] not in points]


def resume_point(missing: Pieces, points: Points) -> ResumePoint:
    """Tell from where training goes on: from the newest checkpoint that is followed by one that is missing."""
    step = max((begin for begin, _ in missing if begin in points), default=0)
    sha256 = points[step].file.sha256 if step else None
    return ResumePoint(step, sha256, datetime.now(UTC).isoformat(timespec="seconds"))


def engine_of(start: RunStart) -> Engine:
    """Find the engine that a run was started with, whatever would be chosen now.

    Raises:
        ConfigError: It cannot run here.
    """
    try:
        return same_engine(start.engine, start.device, start.config["hidden"], start.config["batch_size"])
    except ConfigError as exc:
        raise ConfigError(
            f"run {start.run_id} was started with the {start.engine} engine on {start.device}, and another would end "
            f"in other bits; continue it on a machine where that can run, or start a new run. Here it cannot: {exc}"
        ) from exc
