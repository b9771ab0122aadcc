"""Locks on directories."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_bp.errors import StoreError
from mnist_bp.storage import locks
from mnist_bp.storage.locks import LOCK, is_locked, locked
from tests.support.waiting import eventually


def test_a_lock_is_acquired_where_its_holder_has_removed_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "NOTICE_S", 0.05)
    directory = tmp_path / "cache"

    def wait_for_it() -> bool:
        with locked(directory):
            return is_locked(directory)

    with ThreadPoolExecutor(1) as pool:
        with locked(directory):
            waiting = pool.submit(wait_for_it)
            eventually(lambda: caplog.messages, "it does not wait")  # it logs that it does
            (directory / LOCK).unlink()
            directory.rmdir()
        assert waiting.result()


def test_a_directory_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError), locked(tmp_path / "file" / "cache"):
        pass
