"""The S3 servers that tests run: which must be present, and what they keep when they are killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from mnist_bp.storage.address import open_store
from tests.support.s3_servers import BUILT_BY_GO, admin_client, environment_of, present_servers, serve
from tests.support.store_files import put


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without programs; returns the one directory on its PATH."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "environment" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def install(program: str, directory: Path) -> None:
    (directory / program).touch(0o755)


def test_without_ci_or_go_tests_run_on_the_servers_that_are_installed(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("versitygw", bare_machine)
    install("go", bare_machine)
    assert present_servers() == ["rclone", "moto", "versitygw"]
    monkeypatch.setenv("CI", "true")
    (bare_machine / "go").unlink()
    assert present_servers() == ["rclone", "moto", "versitygw"]


@pytest.mark.parametrize("missing", BUILT_BY_GO)
def test_in_ci_a_server_that_go_builds_must_be_present(
    missing: str, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    for program in {"go", *BUILT_BY_GO} - {missing}:
        install(program, bare_machine)
    with pytest.raises(RuntimeError, match=f"^{missing} not found .*: run make servers"):
        present_servers()
    install(missing, bare_machine)
    assert present_servers() == ["rclone", "moto", *BUILT_BY_GO]


@pytest.mark.parametrize("name", sorted({*present_servers()} - {"moto"}))  # moto keeps objects in memory
def test_what_a_server_accepted_is_read_after_it_was_killed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, contents = "s3://bucket/prefix", {f"runs/{number}": b"%d" % number for number in range(20)}
    with serve(name, tmp_path / "server", end_with=signal.SIGKILL) as server, admin_client(server) as client:
        client.create_bucket(Bucket="bucket")
        for variable, value in environment_of(server).items():
            monkeypatch.setenv(variable, value)
        store = open_store(address)
        for key, content in contents.items():
            put(store, key, content)
    with serve(name, tmp_path / "server") as server:
        for variable, value in environment_of(server).items():
            monkeypatch.setenv(variable, value)
        store = open_store(address)
        assert {entry.key: store.get(entry.key) for entry in store.list_entries()} == contents
        put(store, "runs/0", contents["runs/0"])
