"""Disks that are full, read-only or missing during a run: one clear line, and the run can be completed afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.layout import PROMOTION, RUNS, run_directory
from mnist_bp.registry.verify import verify
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import TEMPORARY_SUFFIX
from tests.conftest import data_dir_of
from tests.support.killed_runs import RunLauncher, RunPlan, RunResult
from tests.support.published_runs import run_id_of

UNPRIVILEGED_USER = 65534


@pytest.fixture
def plan(tmp_path: Path, sample_raw: RawDataset, sample: CachedDataset) -> RunPlan:
    """A run with five checkpoints, whose dataset is already preprocessed."""
    shutil.copytree(data_dir_of(sample_raw), tmp_path / "data")
    places = {"data_dir": str(tmp_path / "data"), "artifacts": str(tmp_path / "artifacts")}
    config = RunConfig(dataset="mnist-sample", steps=500, checkpoint_every=100, engine="cpu", **places)
    return RunPlan(config, run_id_of(1))


def files_below(*places: str) -> dict[Path, bytes]:
    """Read all files except locks."""
    found = (path for place in places for path in Path(place).rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


def assert_one_line(result: RunResult, *parts: str) -> None:
    assert (result.killed, result.error) == (False, "StoreError"), result.message
    assert "\n" not in result.message
    for part in parts:
        assert part in result.message


def assert_can_be_completed(launcher: RunLauncher, plan: RunPlan) -> None:
    """Check that the run is completed when it is started again without the fault."""
    (result,) = launcher.run(replace(plan, max_file_size=None, user=None))
    assert result.finished, result.message
    store = open_store(plan.config.artifacts)
    findings = list(verify(store, Path(plan.config.data_dir), all_runs=True))
    assert [finding for finding in findings if finding.status != "ok"] == []
    assert store.read(f"{RUNS}{plan.run_id}/{PROMOTION}") is not None


# --- full --------------------------------------------------------------------

FULL = [(500, "journal.jsonl"), (10_000, "step-0000100.safetensors")]
"""Largest size of a file in bytes, and the file that cannot be written."""


@pytest.mark.parametrize(("largest", "name"), FULL)
def test_a_full_disk_is_one_line_and_the_run_can_be_completed_once_there_is_room(
    largest: int, name: str, launcher: RunLauncher, plan: RunPlan
) -> None:
    before = files_below(plan.config.data_dir)
    (result,) = launcher.run(replace(plan, max_file_size=largest))
    assert_one_line(result, "cannot write", name, "--data-dir")
    after = files_below(plan.config.data_dir, plan.config.artifacts)
    assert {path: after[path] for path in before} == before
    assert [path for path in after if path.name.endswith(TEMPORARY_SUFFIX)] == []
    assert_can_be_completed(launcher, plan)


def test_a_disk_that_is_full_at_any_of_many_sizes_leaves_no_partial_file(launcher: RunLauncher, plan: RunPlan) -> None:
    for number, largest in enumerate(range(1_000, 120_000, 17_000), start=1):
        each = replace(plan, run_id=run_id_of(number), max_file_size=largest)
        (result,) = launcher.run(each)
        if not result.finished:
            assert_one_line(result, "cannot write")
        store = open_store(plan.config.artifacts)
        assert [finding for finding in verify(store, Path("nowhere"), all_runs=True) if finding.bad] == []
        assert_can_be_completed(launcher, each)


# --- read-only ---------------------------------------------------------------


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Make a directory and everything below it read-only for all users except root."""
    directories = [place, *(path for path in place.rglob("*") if path.is_dir())]
    try:
        for directory in directories:
            directory.chmod(0o555)
        yield
    finally:
        for directory in directories:
            directory.chmod(0o755)


def owned(plan: RunPlan, user: int | None) -> RunPlan:
    """Execute a run as another user than root, whom file modes do not restrict."""
    if user is None:
        return plan
    place = Path(plan.config.data_dir).parent
    for path in (place, *place.rglob("*")):
        os.chown(path, user, user)
    for parent in place.parents:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o011)  # so that the user can traverse it
    return replace(plan, user=user)


@pytest.mark.parametrize("place", ["data", "artifacts"])
def test_a_read_only_directory_is_one_line_before_anything_is_written(
    place: str, launcher: RunLauncher, plan: RunPlan, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").mkdir()
    plan = owned(plan, UNPRIVILEGED_USER if os.getuid() == 0 else None)
    before = files_below(str(tmp_path))
    with read_only(tmp_path / place):
        (result,) = launcher.run(plan)
    assert_one_line(result, "cannot write", str(tmp_path / place), "Permission denied")
    assert files_below(str(tmp_path)) == before
    assert_can_be_completed(launcher, plan)


@pytest.mark.parametrize("below", ["runs", "runs/checkpoints"])
def test_a_run_whose_directory_has_become_read_only_is_one_line_and_can_be_completed_once_it_is_writable(
    below: str, launcher: RunLauncher, plan: RunPlan, tmp_path: Path
) -> None:
    plan = owned(plan, UNPRIVILEGED_USER if os.getuid() == 0 else None)
    (killed,) = launcher.run(replace(plan, kill_at=20))
    assert killed.killed
    directory = run_directory(plan.config.data_dir, plan.run_id)
    before = {path: content for path, content in files_below(str(directory)).items() if path.suffix != ".jsonl"}
    with read_only(directory / "checkpoints" if below.endswith("checkpoints") else directory.parent):
        (result,) = launcher.run(plan)
    assert_one_line(result, "cannot write", str(directory), "Permission denied")
    assert before.items() <= files_below(str(directory)).items()
    assert_can_be_completed(launcher, plan)


# --- removed -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "checkpoints", "data", "artifacts"])
def test_a_directory_that_is_removed_during_the_run_is_one_line(
    what: str, launcher: RunLauncher, plan: RunPlan, tmp_path: Path
) -> None:
    directory = run_directory(plan.config.data_dir, plan.run_id)
    places = {"run": directory, "checkpoints": directory / "checkpoints", "data": tmp_path / "data"}
    place = places.get(what, tmp_path / "artifacts")
    elsewhere = {"data_dir": str(tmp_path / "other-data"), "artifacts": str(tmp_path / "other-artifacts")}
    shutil.copytree(plan.config.data_dir, elsewhere["data_dir"])
    (complete,) = launcher.run(replace(plan, config=plan.config.model_copy(update=elsewhere)))
    at = next(number for number, each in enumerate(complete.events, 1) if each == "os.rename step-0000300.safetensors")
    (result,) = launcher.run(replace(plan, remove=(at, str(place))))
    assert result.finished == (what == "artifacts"), result.message
    if not result.finished:
        assert_one_line(result, str(directory))
    assert_can_be_completed(launcher, plan)


def test_a_run_that_is_removed_between_two_checkpoints_is_one_line_and_is_not_recreated_by_the_next(
    launcher: RunLauncher, plan: RunPlan, tmp_path: Path
) -> None:
    directory = run_directory(plan.config.data_dir, plan.run_id)
    elsewhere = {"data_dir": str(tmp_path / "other-data"), "artifacts": str(tmp_path / "other-artifacts")}
    shutil.copytree(plan.config.data_dir, elsewhere["data_dir"])
    (complete,) = launcher.run(replace(plan, config=plan.config.model_copy(update=elsewhere)))
    journalled = [number for number, each in enumerate(complete.events, 1) if each == "fsync journal.jsonl"]
    (result,) = launcher.run(replace(plan, remove=(journalled[2], str(directory))))
    assert_one_line(result, str(directory), "the run was removed while it was in progress; start a new one")
    assert not directory.exists()
    assert_can_be_completed(launcher, plan)
