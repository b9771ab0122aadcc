"""Directories on file systems without hard links, without flushing of directories, or without locks."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.errors import ConflictError, StoreError
from mnist_bp.preflight import preflight
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.locks import locked
from tests.support.filesystems import without_directory_fsync, without_hard_links, without_locks
from tests.support.store_files import put

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
NO_FSYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def use_store(directory: Path) -> None:
    """Use a store as a run does."""
    store = LocalStore(directory)
    store.check_writable()
    put(store, "runs/a/file", b"content")
    put(store, "runs/a/file", b"content")
    with pytest.raises(ConflictError):
        put(store, "runs/a/file", b"another")
    assert store.get("runs/a/file") == b"content"
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda number: store.create("champion/a", f"{number}".encode()), range(8))) == 1
    assert [entry.key for entry in store.list_entries()] == ["champion/a", "runs/a/file"]


@pytest.mark.parametrize("error", NO_LINKS)
def test_a_directory_without_hard_links_takes_files_once(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hard_links(monkeypatch, error)
    use_store(tmp_path)


@pytest.mark.parametrize("error", NO_FSYNC)
def test_a_directory_that_cannot_be_flushed_takes_files(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_directory_fsync(monkeypatch, error)
    use_store(tmp_path)


def test_a_failing_disk_is_still_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_directory_fsync(monkeypatch, errno.EIO)
    with pytest.raises(StoreError, match="Input/output error"):
        write_bytes(tmp_path / "file", b"content")


@pytest.mark.parametrize("error", NO_LOCKS)
def test_a_directory_without_locks_is_refused_in_one_clear_line(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, error)
    with (
        pytest.raises(StoreError, match=f"cannot lock {tmp_path}: its file system has no file locks"),
        locked(tmp_path),
    ):
        pytest.fail("it was locked")


def test_a_store_with_neither_hard_links_nor_locks_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_hard_links(monkeypatch)
    without_locks(monkeypatch)
    config = RunConfig(dataset="mnist-sample", artifacts=str(tmp_path / "store"), data_dir=str(tmp_path / "data"))
    with pytest.raises(StoreError, match="its file system has no file locks"):
        preflight(config)
    assert not (tmp_path / "data").exists()


def test_a_store_without_locks_takes_files_where_it_has_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    use_store(tmp_path)
