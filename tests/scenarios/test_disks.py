"""Disks that are full, read-only or gone while a run is made: one clear line, and the run goes on afterwards."""

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
from mnist_bp.results import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import TEMPORARY_SUFFIX
from tests.conftest import data_dir_of
from tests.support.killed_runs import Ending, Nursery, Order
from tests.support.published_runs import run_id_of

NOBODY = 65534


@pytest.fixture
def order(tmp_path: Path, sample_raw: RawDataset, sample: CachedDataset) -> Order:
    """A run of five checkpoints, its caches warm."""
    shutil.copytree(data_dir_of(sample_raw), tmp_path / "data")
    places = {"data_dir": str(tmp_path / "data"), "artifacts": str(tmp_path / "artifacts")}
    config = RunConfig(dataset="mnist-sample", steps=500, checkpoint_every=100, engine="cpu", **places)
    return Order(config, run_id_of(1))


def files_below(*places: str) -> dict[Path, bytes]:
    """Read all files but locks."""
    found = (path for place in places for path in Path(place).rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


def assert_one_line(ending: Ending, *parts: str) -> None:
    assert (ending.killed, ending.error) == (False, "StoreError"), ending.message
    assert "\n" not in ending.message
    for part in parts:
        assert part in ending.message


def assert_ends_well(nursery: Nursery, order: Order) -> None:
    """The run ends when it is made again with nothing in its way."""
    (ending,) = nursery.make(replace(order, largest_file=None, user=None))
    assert ending.finished, ending.message
    store = open_store(order.config.artifacts)
    findings = list(verify(store, Path(order.config.data_dir), all_runs=True))
    assert [finding for finding in findings if finding.status != "ok"] == []
    assert store.read(f"{RUNS}{order.run_id}/{PROMOTION}") is not None


# --- full --------------------------------------------------------------------

FULL = [(500, "journal.jsonl"), (10_000, "step-0000100.safetensors")]
"""Where no file grows beyond so many bytes, what cannot be written."""


@pytest.mark.parametrize(("largest", "name"), FULL)
def test_a_full_disk_is_one_line_and_the_run_ends_once_there_is_room(
    largest: int, name: str, nursery: Nursery, order: Order
) -> None:
    before = files_below(order.config.data_dir)
    (ending,) = nursery.make(replace(order, largest_file=largest))
    assert_one_line(ending, "cannot write", name, "--data-dir")
    after = files_below(order.config.data_dir, order.config.artifacts)
    assert {path: after[path] for path in before} == before
    assert [path for path in after if path.name.endswith(TEMPORARY_SUFFIX)] == []
    assert_ends_well(nursery, order)


def test_a_disk_that_is_full_at_each_of_many_sizes_never_leaves_a_half_file(nursery: Nursery, order: Order) -> None:
    for number, largest in enumerate(range(1_000, 120_000, 17_000), start=1):
        each = replace(order, run_id=run_id_of(number), largest_file=largest)
        (ending,) = nursery.make(each)
        if not ending.finished:
            assert_one_line(ending, "cannot write")
        store = open_store(order.config.artifacts)
        assert [finding for finding in verify(store, Path("nowhere"), all_runs=True) if finding.bad] == []
        assert_ends_well(nursery, each)


# --- read-only ---------------------------------------------------------------


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let nobody but root write to a directory and all that is below it."""
    directories = [place, *(path for path in place.rglob("*") if path.is_dir())]
    try:
        for directory in directories:
            directory.chmod(0o555)
        yield
    finally:
        for directory in directories:
            directory.chmod(0o755)


def owned(order: Order, user: int | None) -> Order:
    """Have a run made by somebody who is not root, whom modes would not stop."""
    if user is None:
        return order
    place = Path(order.config.data_dir).parent
    for path in (place, *place.rglob("*")):
        os.chown(path, user, user)
    for parent in place.parents:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o011)  # to pass through
    return replace(order, user=user)


@pytest.mark.parametrize("place", ["data", "artifacts"])
def test_a_read_only_directory_is_one_line_before_anything_is_done(
    place: str, nursery: Nursery, order: Order, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").mkdir()
    order = owned(order, NOBODY if os.getuid() == 0 else None)
    before = files_below(str(tmp_path))
    with read_only(tmp_path / place):
        (ending,) = nursery.make(order)
    assert_one_line(ending, "cannot write", str(tmp_path / place), "Permission denied")
    assert files_below(str(tmp_path)) == before
    assert_ends_well(nursery, order)


@pytest.mark.parametrize("below", ["runs", "runs/checkpoints"])
def test_a_run_whose_directory_has_become_read_only_is_one_line_and_goes_on_once_it_may(
    below: str, nursery: Nursery, order: Order, tmp_path: Path
) -> None:
    order = owned(order, NOBODY if os.getuid() == 0 else None)
    (killed,) = nursery.make(replace(order, die_at=20))
    assert killed.killed
    directory = run_directory(order.config.data_dir, order.run_id)
    before = {path: content for path, content in files_below(str(directory)).items() if path.suffix != ".jsonl"}
    with read_only(directory / "checkpoints" if below.endswith("checkpoints") else directory.parent):
        (ending,) = nursery.make(order)
    assert_one_line(ending, "cannot write", str(directory), "Permission denied")
    assert before.items() <= files_below(str(directory)).items()
    assert_ends_well(nursery, order)


# --- gone --------------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "checkpoints", "data", "artifacts"])
def test_a_directory_that_is_removed_while_the_run_is_made_is_one_line(
    what: str, nursery: Nursery, order: Order, tmp_path: Path
) -> None:
    directory = run_directory(order.config.data_dir, order.run_id)
    places = {"run": directory, "checkpoints": directory / "checkpoints", "data": tmp_path / "data"}
    place = places.get(what, tmp_path / "artifacts")
    elsewhere = {"data_dir": str(tmp_path / "other-data"), "artifacts": str(tmp_path / "other-artifacts")}
    shutil.copytree(order.config.data_dir, elsewhere["data_dir"])
    (whole,) = nursery.make(replace(order, config=order.config.model_copy(update=elsewhere)))
    at = next(number for number, each in enumerate(whole.events, 1) if each == "os.rename step-0000300.safetensors")
    (ending,) = nursery.make(replace(order, remove=(at, str(place))))
    assert ending.finished == (what == "artifacts"), ending.message
    if not ending.finished:
        assert_one_line(ending, str(directory))
    assert_ends_well(nursery, order)


def test_a_run_that_is_removed_between_two_checkpoints_is_one_line_and_not_made_again_by_the_next(
    nursery: Nursery, order: Order, tmp_path: Path
) -> None:
    directory = run_directory(order.config.data_dir, order.run_id)
    elsewhere = {"data_dir": str(tmp_path / "other-data"), "artifacts": str(tmp_path / "other-artifacts")}
    shutil.copytree(order.config.data_dir, elsewhere["data_dir"])
    (whole,) = nursery.make(replace(order, config=order.config.model_copy(update=elsewhere)))
    journalled = [number for number, each in enumerate(whole.events, 1) if each == "fsync journal.jsonl"]
    (ending,) = nursery.make(replace(order, remove=(journalled[2], str(directory))))
    assert_one_line(ending, str(directory), "the run was removed while it was in progress; start a new one")
    assert not directory.exists()
    assert_ends_well(nursery, order)
