"""A separate Prefect server: why it may not start, and the message then."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from flows.runtime.server import LocalServer, ServerError, database, database_is_locked, is_healthy
from tests.support.waiting import eventually


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PREFECT_HOME is a separate directory for servers started in this test."""
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    return home


@pytest.fixture
def lock(here: Path) -> Iterator[sqlite3.Connection]:
    """Hold Prefect's database, until the transaction is rolled back."""
    with closing(sqlite3.connect(database(), isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_a_server_replies_inside_its_block_and_has_ended_after_it(here: Path) -> None:
    before = children()
    with LocalServer() as server:
        assert is_healthy(server.url)
        assert len(children() - before) == 1
    assert not is_healthy(server.url)
    assert children() == before


def test_a_server_that_cannot_start_is_reported_with_its_exception(here: Path) -> None:
    before = children()
    database().write_bytes(b"no database" * 1_000)
    with pytest.raises(ServerError, match=r"exited during startup: .*file is not a database"), LocalServer():
        pass
    assert children() == before


def test_the_server_waits_for_a_locked_database(lock: sqlite3.Connection) -> None:
    assert database_is_locked()
    threading.Timer(3, lock.rollback).start()
    began = time.monotonic()
    with LocalServer() as server:
        assert is_healthy(server.url)
    assert time.monotonic() > began + 3
    assert not database_is_locked()


def test_the_lock_of_the_server_itself_is_not_taken_for_that_of_another_process(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It locks a new database while it creates the tables, on a slow machine for longer than another may lock it."""
    monkeypatch.setenv("PREFECT_HOME", str(here / "new"))
    server = LocalServer()
    try:
        eventually(lambda: database().exists() and database_is_locked(), "it was not locked")
        server.wait(lock_timeout=0)
    finally:
        server.stop()


def test_a_database_that_stays_locked_is_named_with_what_to_do(lock: sqlite3.Connection) -> None:
    before = children()
    server = LocalServer()
    try:
        with pytest.raises(ServerError, match=r"prefect\.db has been locked by another process for 2 s.*PREFECT_HOME"):
            server.wait(lock_timeout=2)
    finally:
        server.stop()
    assert children() == before
