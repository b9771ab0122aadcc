"""Which run is to be made: a new one, or the one that `--resume` means, if it can be continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from mnist_bp.config import RunConfig, data_dir_from_environment
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import ConfigError
from mnist_bp.layout import MANIFEST, PROMOTION, RUN_ID, RUNS, new_run_id, run_directory
from mnist_bp.results import RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.training.journal import Journal, RunStart
from mnist_bp.training.workspace import lock_run, nearest_runs


@dataclass(frozen=True)
class RunRequest:
    """A run that is to be made.

    Args:
        run_id: Its id.
        config: What it is made with; of one that was started before, with the dataset that `auto` became.
        notice: Why the bundled sample stands in for MNIST, or None.
        manifest: URI of its manifest if it is published and was decided about, which leaves nothing to be done.
        started_engine: Name of the engine that it was started with, if it was started before.
    """

    run_id: str
    config: RunConfig
    notice: str | None = None
    manifest: str | None = None
    started_engine: str | None = None

    @property
    def engine(self) -> str:
        """Name the engine: the one that it was started with, or else what `auto` is on this machine."""
        if self.started_engine is not None:
            return self.started_engine
        return choose_engine(self.config.engine, self.config.hidden, self.config.batch_size)[0].name

    @property
    def nothing_to_do(self) -> str:
        """Say that the run is published."""
        return f"{self.run_id} is published already, nothing to do: {self.manifest}"

    def with_notice(self, raw: RawDataset) -> RawDataset:
        """Return the dataset with the notice that it had when the run was started."""
        return replace(raw, notice=raw.notice or self.notice)


def open_run(config: RunConfig, resume: str | None) -> RunRequest:
    """Give a run a new id, or find the one that is to be resumed.

    Args:
        config: What to make a new run with; of one that is resumed, see `load_resumable_run`.
        resume: The id of a run to be continued, or None.

    Raises:
        ConfigError, ChecksumError, DataFormatError, StoreError: See `load_resumable_run`.
    """
    return RunRequest(new_run_id(), config) if resume is None else load_resumable_run(resume, config, config.chosen)


def load_resumable_run(run_id: str, config: RunConfig, given: Mapping[str, Any]) -> RunRequest:
    """Find a run in a data directory.

    Args:
        run_id: Which.
        config: Says where to look: `data_dir`, and `artifacts` for a run that is no longer there.
        given: What the user asked for beside it, as JSON has it; it is to be what the run was started with.

    Raises:
        ConfigError: There is no such run, or it was started with something else; says with what.
        ChecksumError, DataFormatError: Its journal is damaged.
        StoreError: It cannot be read, or another process is working on it.
    """
    if not RUN_ID.fullmatch(run_id):
        raise _unknown(run_id, config.data_dir)
    directory = run_directory(config.data_dir, run_id)
    known = Journal(directory).read()
    if known is None:
        if manifest := _put(run_id, config.artifacts, MANIFEST):
            return RunRequest(run_id, config, manifest=manifest)
        raise _unknown(run_id, config.data_dir)
    with lock_run(directory):  # find out now, not after a download
        pass
    known.start.refuse_changes(given)
    recorded = _recorded_config(known.start, config.data_dir)
    decided = _put(run_id, recorded.artifacts, PROMOTION)  # the last that a run puts
    manifest = _put(run_id, recorded.artifacts, MANIFEST) if decided else None
    return RunRequest(run_id, recorded, known.start.dataset_notice, manifest, known.start.engine)


def resume_flags(run_id: str, data_dir: str) -> list[str]:
    """List the flags that continue a run, for a command to be copied."""
    return ["--resume", run_id, *([] if data_dir == data_dir_from_environment() else ["--data-dir", data_dir])]


def _put(run_id: str, artifacts: str, name: str) -> str | None:
    """Return the URI of a file of a run, or None if it has not been put."""
    store, key = open_store(artifacts), f"{RUNS}{run_id}/{name}"
    return None if store.read(key) is None else store.uri(key)


def _unknown(run_id: str, data_dir: str) -> ConfigError:
    directory, near = run_directory(data_dir, run_id), nearest_runs(data_dir, run_id)
    if run_id in near:
        return ConfigError(
            f"--resume {run_id}: {directory} has no journal: the run was broken off before its first step, or its "
            "journal is lost; start a new run"
        )
    expected = f"the nearest are {', '.join(near)}" if near else "there is none yet"
    return ConfigError(
        f"--resume {run_id}: no run of that id was begun in {data_dir} (--data-dir); {expected}; "
        "a run that was broken off before its first step is started anew, without --resume"
    )


def _recorded_config(start: RunStart, data_dir: str) -> RunConfig:
    try:
        return RunConfig.model_validate({**start.config, "dataset": start.dataset, "data_dir": data_dir})
    except ValidationError as exc:
        fields = ", ".join(str(error["loc"][0]) for error in exc.errors() if error["loc"])
        raise ConfigError(
            f"run {start.run_id} was started by another version of mnist-bp, with settings that this one does not "
            f"know ({fields}): continue it with that version, or start a new run"
        ) from exc
