"""Interrupted runs: those that have a journal in a data directory, and are not published."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mnist_bp.errors import MnistBpError, counted
from mnist_bp.layout import RUN_ID, run_directory
from mnist_bp.storage.locks import is_locked
from mnist_bp.training.journal import Journal


@dataclass(frozen=True)
class InterruptedRun:
    """A run that is not finished.

    Args:
        run_id: Its id.
        directory: Its directory on this machine.
        artifacts: Address of the store that it will be published to.
        dataset: Name of its dataset.
        engine: Name of its engine.
        seeds: Its seeds.
        step: Step of its newest checkpoint; 0 before the first.
        steps: Its last step.
        in_progress: Whether a process is working on it.
        parts: Number of its parts; None for a run that is not in parts. Its step is 0 until all are trained.
        trained_parts: Number of those that are trained.
    """

    run_id: str
    directory: str
    artifacts: str
    dataset: str
    engine: str
    seeds: tuple[int, ...]
    step: int
    steps: int
    in_progress: bool
    parts: int | None = None
    trained_parts: int = 0

    @property
    def status(self) -> str:
        """Describe how far the run came."""
        if self.parts is not None and self.trained_parts < self.parts:
            state = "in progress" if self.in_progress else "interrupted"
            verb = "is" if self.parts == 1 else "are"
            return f"{state}, {self.trained_parts:,} of {counted(self.parts, 'part')} {verb} trained"
        if self.in_progress:
            return f"in progress, newest checkpoint step {self.step:,} of {self.steps:,}"
        if self.step == self.steps:
            return f"trained, all {self.steps:,} steps"
        return f"interrupted after step {self.step:,} of {self.steps:,}"


def find_interrupted_run(data_dir: str | Path, run_id: str) -> InterruptedRun | None:
    """Find the journal of a run; None if it is missing. Whether the run was published is not checked.

    Raises:
        ChecksumError, DataFormatError, StoreError: The journal cannot be read.
    """
    if not RUN_ID.fullmatch(run_id):
        return None
    directory = run_directory(data_dir, run_id)
    known = Journal(directory).read()
    if known is None:
        return None
    parts = known.start.parts
    return InterruptedRun(
        run_id=run_id,
        directory=str(directory),
        artifacts=known.start.config["artifacts"],
        dataset=known.start.dataset,
        engine=known.start.engine,
        seeds=known.start.seeds,
        step=known.start.config["steps"] if len(known.parts) == parts else max(known.checkpoints, default=0),
        steps=known.start.config["steps"],
        in_progress=is_locked(directory),
        parts=parts,
        trained_parts=len(known.parts),
    )


def list_interrupted_runs(
    data_dir: str | Path, artifacts: str, published: Collection[str]
) -> tuple[list[InterruptedRun], list[str]]:
    """List the runs that were started for a store and are not published there, in order of run id.

    Args:
        data_dir: Data directory; it may be missing.
        artifacts: Absolute address of the store.
        published: Ids of its complete runs, whose journals are not read.

    Returns:
        The runs, and a message about each journal that cannot be read.
    """
    runs, problems = [], []
    for path in sorted(Path(data_dir, "runs").glob("*/")):
        if path.name in published:
            continue
        try:
            run = find_interrupted_run(data_dir, path.name)
        except MnistBpError as exc:
            problems.append(str(exc))
        else:
            if run is not None and run.artifacts == artifacts:
                runs.append(run)
    return runs, problems
