"""Opening a run: a new one, or the one that `--resume` names, if it can be resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mnist_bp.config import RunConfig
from mnist_bp.data.own.address import is_own, recorded_dataset
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import ConfigError, DataFormatError, MnistBpError
from mnist_bp.layout import LATEST, MANIFEST, PROMOTION, RUN_ID, RUN_ID_START, match_run_id, run_directory, run_key
from mnist_bp.model.seeds import seeds_range
from mnist_bp.storage.address import open_store
from mnist_bp.storage.places import data_dir_from_environment
from mnist_bp.training.interrupted import find_interrupted_run
from mnist_bp.training.journal import Journal
from mnist_bp.training.journal_state import RunStart
from mnist_bp.training.workspace import list_run_ids, lock_run, nearest_runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """A run to train and publish.

    Args:
        run_id: The run's id.
        config: The run's configuration; for a resumed run, with the dataset that `auto` became.
        notice: Why the bundled sample replaces MNIST, or None.
        manifest: URI of the manifest if the run is published and its promotion is decided: nothing is left to do.
        started_engine: For a resumed run, the name of the engine that it was started with; otherwise None.
    """

    run_id: str
    config: RunConfig
    notice: str | None = None
    manifest: str | None = None
    started_engine: str | None = None

    @property
    def engine(self) -> str:
        """Name of the engine: the one that the run was started with, or the one that is chosen on this machine."""
        if self.started_engine is not None:
            return self.started_engine
        config = self.config
        return choose_engine(config.engine, *config.grid.largest)[0].name


def load_resumable_run(name: str, config: RunConfig, given: Mapping[str, Any]) -> RunRequest:
    """Find the run to resume in a data directory.

    Args:
        name: The run's id, at least 6 characters of its start, or `latest` for the newest interrupted run.
        config: Where to search: `data_dir`, and `artifacts` for a published run whose directory was removed.
        given: The settings that the user gave, as JSON. They must be the ones that the run was started with.

    Raises:
        ConfigError: The run does not exist, cannot be decided without its directory, or was started with other
            settings; names them.
        ChecksumError, DataFormatError: The first line of the run's journal is damaged, or has another version.
        StoreError: The journal cannot be read, or another process is working on the run.
    """
    run_id = _resolve(name, config.data_dir)
    if not RUN_ID.fullmatch(run_id):
        raise _unknown(run_id, config.data_dir)
    directory = run_directory(config.data_dir, run_id)
    known = Journal(directory).read()
    if known is None:
        if manifest := _find_published(run_id, config.artifacts, MANIFEST):
            if not _find_published(run_id, config.artifacts, PROMOTION):
                raise ConfigError(
                    f"--resume {run_id}: the run is published without a {PROMOTION}, and {directory}, which a resume "
                    "needs to decide about it, has no journal; restore the directory, or start a new run"
                )
            return RunRequest(run_id, config, manifest=manifest)
        raise _unknown(run_id, config.data_dir)
    with lock_run(directory):  # refused now rather than after a download
        pass
    known.start.refuse_changes(given)
    recorded = _recorded_config(known.start, config)
    decided = _find_published(run_id, recorded.artifacts, PROMOTION)  # the last file that a run publishes
    manifest = _find_published(run_id, recorded.artifacts, MANIFEST) if decided else None
    return RunRequest(run_id, recorded, known.start.dataset_notice, manifest, known.start.engine)


def _resolve(name: str, data_dir: str) -> str:
    """Return the id of the run on this machine that a name means, or another name as it is."""
    if name == LATEST:
        return _newest_interrupted(data_dir)
    if RUN_ID_START.fullmatch(name):
        return match_run_id(name, list_run_ids(data_dir), (), f"{data_dir} (--data-dir)")
    return name


def _newest_interrupted(data_dir: str) -> str:
    """Find the newest run in a data directory that is neither finished nor in progress.

    Raises:
        ConfigError: No run is interrupted.
    """
    busy = []
    for run_id in reversed(list_run_ids(data_dir)):
        try:
            run = find_interrupted_run(data_dir, run_id)
        except MnistBpError as exc:
            logger.warning(f"resume      left out: {exc}")
            continue
        if run is None or (run.step == run.steps and _find_published(run_id, run.artifacts, PROMOTION)):
            continue
        if not run.in_progress:
            return run_id
        busy.append(run_id)
    progress = f"; in progress: {', '.join(busy)}" if busy else ""
    raise ConfigError(
        f"--resume: {data_dir} (--data-dir) has no interrupted run{progress}; expected one of this machine, see "
        "mnist-bp runs; to start a new run, leave out --resume"
    )


def resume_flags(run_id: str, data_dir: str) -> list[str]:
    """List the flags that resume a run, for a command to copy."""
    return ["--resume", run_id, *([] if is_default_data_dir(data_dir) else ["--data-dir", data_dir])]


def is_default_data_dir(data_dir: str) -> bool:
    """Return whether a data directory is the one that is used without `--data-dir`."""
    return Path(data_dir).absolute() == Path(data_dir_from_environment()).absolute()


def _find_published(run_id: str, artifacts: str, name: str) -> str | None:
    """Return the URI of a published file of a run, or None if it is not published."""
    store, key = open_store(artifacts), run_key(run_id, name)
    return None if store.read(key) is None else store.uri(key)


def _unknown(run_id: str, data_dir: str) -> ConfigError:
    directory, near = run_directory(data_dir, run_id), nearest_runs(data_dir, run_id)
    if run_id in near:
        return ConfigError(
            f"--resume {run_id}: {directory} has no journal: the run was interrupted before its first step, or its "
            "journal is lost; start a new run, without --resume"
        )
    expected = f"the nearest are {', '.join(near)}" if near else "it has no runs"
    return ConfigError(
        f"--resume {run_id}: {data_dir} (--data-dir) has no run of that id; {expected}; "
        "resume it on the machine that it ran on, or with its data directory; if the run was interrupted before its "
        "first step, start a new run, without --resume"
    )


def _recorded_config(start: RunStart, given: RunConfig) -> RunConfig:
    own: dict[str, Any] = {
        "data_dir": given.data_dir,
        "track": given.track,
        "certify": given.certify,
        "runner": given.runner,
    }  # of this process
    dataset = recorded_dataset(start.config, start.dataset)
    if is_own(dataset):
        own["epochs"] = given.epochs  # compared with the steps once the images are read
    try:
        config = RunConfig.model_validate({**start.config, "dataset": dataset, **own})
    except ValidationError as exc:
        fields = ", ".join(str(error["loc"][0]) for error in exc.errors() if error["loc"])
        raise ConfigError(
            f"run {start.run_id} was started by another version of mnist-bp, with settings that this one does not "
            f"know ({fields}): resume it with that version, or start a new run"
        ) from exc
    if config.seed_list != start.seeds:
        raise DataFormatError(
            f"the journal of run {start.run_id} has the seeds {start.seeds[:3]}..., expected those of its "
            f"configuration, {seeds_range(config.seed_list)}; start a new run, without --resume"
        )
    return config
