"""Opening a run: a new one, or the one that --resume names, if it can be resumed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS, run_directory
from mnist_bp.storage.address import open_store
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training.journal import Journal
from mnist_bp.training.journal_state import RunStart
from mnist_bp.training.resume import RunRequest, load_resumable_run, resume_flags
from mnist_bp.training.workspace import lock_run
from tests.support.waiting import HANG_S

RUN = "20261125T072013Z-1d4ef8bd"
OTHER = "20261125T072013Z-1d4ef8be"


def begin(run_id: str = RUN, **settings: object) -> RunConfig:
    """Begin a run in ./data: its journal has a start, and nothing else."""
    config = RunConfig.model_validate({"data_dir": "data", "artifacts": "artifacts", **settings})
    start = RunStart(
        run_id=run_id,
        config=config.record,
        dataset="mnist-sample",
        dataset_key="0a1b",
        dataset_notice="no network",
        seeds=config.seed_list,
        validation_examples=0,
        engine="reference",
        device="cpu",
        engine_notice=None,
        certificate={},
    )
    Journal(run_directory("data", run_id)).begin(start)
    return config


def put(name: str, artifacts: str = "artifacts") -> str:
    """Publish a file of the run, and return its URI."""
    store, key = open_store(artifacts), f"{RUNS}{RUN}/{name}"
    store.put(key, b"{}", sha256_of_bytes(b"{}"))
    return store.uri(key)


def refusal(run_id: str = RUN, **given: object) -> str:
    """Return the line that a run is refused with."""
    with pytest.raises(ConfigError) as caught:
        load_resumable_run(run_id, RunConfig(data_dir="data", artifacts="artifacts"), given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_names_the_engine_that_auto_is_here_or_that_it_was_started_with() -> None:
    assert RunRequest("new", RunConfig(engine="auto")).engine == choose_engine("auto")[0].name
    assert RunRequest("new", RunConfig(engine="reference")).engine == "reference"
    assert RunRequest("resumed", RunConfig(engine="auto"), started_engine="reference").engine == "reference"


def test_a_resumed_run_has_the_settings_and_the_dataset_that_it_was_started_with() -> None:
    begin(steps=50, seed=7)
    run = load_resumable_run(RUN, RunConfig(data_dir="data"), RunConfig(data_dir="data").chosen)
    assert (run.run_id, run.config.steps, run.config.seed) == (RUN, 50, 7)
    assert (run.config.dataset, run.engine, run.notice) == ("mnist-sample", "reference", "no network")
    assert run.config.artifacts == str(Path("artifacts").absolute())


def test_a_setting_that_differs_is_refused_and_one_that_does_not_is_accepted() -> None:
    begin(steps=50)
    assert load_resumable_run(RUN, RunConfig(data_dir="data"), {"steps": 50, "dataset": "mnist-sample"}).run_id == RUN
    assert refusal(steps=60, seed=2) == (
        f"run {RUN} cannot be resumed with --steps 60 (started with 50), --seed 2 (started with 1): "
        "leave that out, or start a new run without --resume"
    )


@pytest.mark.parametrize("run_id", ["nonsense", OTHER])
def test_an_unknown_run_is_refused_in_a_line_that_names_the_nearest(run_id: str) -> None:
    assert f"--resume {run_id}: data (--data-dir) has no run of that id; it has no runs; " in refusal(run_id)
    assert "resume it on the machine that it ran on, or with its data directory; " in refusal(run_id)
    begin()
    assert f"data (--data-dir) has no run of that id; the nearest are {RUN}; " in refusal(run_id)


def test_a_run_that_was_interrupted_before_its_first_step_is_refused_with_what_to_do() -> None:
    directory = run_directory("data", RUN)
    directory.mkdir(parents=True)
    assert refusal() == (
        f"--resume {RUN}: {directory} has no journal: the run was interrupted before its first step, or its journal is "
        "lost; start a new run, without --resume"
    )


def test_a_run_of_a_version_with_other_settings_is_refused() -> None:
    begin()
    path = Journal(run_directory("data", RUN)).path
    start = Journal(path.parent).read()
    assert start is not None
    other = {**start.start.config, "momentum": 0.9}
    Journal(path.parent).begin(RunStart(**{**vars(start.start), "config": other}))
    assert "settings that this one does not know (momentum): resume it with that version" in refusal()


@pytest.mark.parametrize("directory_removed", [False, True])
def test_a_run_that_is_published_and_decided_leaves_nothing_to_do(directory_removed: bool) -> None:
    if not directory_removed:
        begin()
    manifest, _ = put(MANIFEST), put(PROMOTION)
    run = load_resumable_run(RUN, RunConfig(data_dir="data", artifacts="artifacts"), {})
    assert run.manifest == manifest


def test_a_run_that_is_published_and_not_decided_is_resumed() -> None:
    begin()
    put(MANIFEST)
    assert load_resumable_run(RUN, RunConfig(data_dir="data"), {}).manifest is None


def test_a_run_that_is_published_and_not_decided_is_refused_without_its_directory() -> None:
    put(MANIFEST)
    assert f"--resume {RUN}: the run is published without a promotion.json, and " in refusal()


def _hold(directory: Path, held: Any, done: Any) -> None:
    with lock_run(directory):
        held.set()
        done.wait(HANG_S)


@contextmanager
def locked_by_another_process(directory: Path) -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(directory, held, done))
    process.start()
    try:
        assert held.wait(HANG_S)
        yield
    finally:
        done.set()
        process.join()


def test_a_run_that_another_process_is_working_on_is_refused() -> None:
    begin()
    with locked_by_another_process(run_directory("data", RUN)), pytest.raises(StoreError) as caught:
        load_resumable_run(RUN, RunConfig(data_dir="data"), {})
    assert "another process is working on this run; wait until it ends" in str(caught.value)
    assert load_resumable_run(RUN, RunConfig(data_dir="data"), {}).run_id == RUN


def test_the_flags_that_resume_a_run_name_the_data_directory_where_it_is_not_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resume_flags(RUN, "data") == ["--resume", RUN]
    assert resume_flags(RUN, "/elsewhere") == ["--resume", RUN, "--data-dir", "/elsewhere"]
    monkeypatch.setenv("MNIST_BP_DATA_DIR", "/elsewhere")
    assert resume_flags(RUN, "/elsewhere") == ["--resume", RUN]
