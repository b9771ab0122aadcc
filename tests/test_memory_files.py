"""Where tests put temporary files."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.memory_files import FILES, PROCESSES, choose_directory


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in memory with just enough space."""
    set_space(monkeypatch)
    return tmp_path


def set_space(
    monkeypatch: pytest.MonkeyPatch, files: int = FILES, memory: int = FILES + PROCESSES, flags: int = 0
) -> None:
    system = SimpleNamespace(f_bavail=files // 4096, f_frsize=4096, f_flag=flags)
    monkeypatch.setattr("os.statvfs", lambda _: system)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=memory))


def chosen(memory: Path, **environment: str) -> str | None:
    choose_directory(environment, memory)
    return environment.get("TMPDIR")


def test_files_go_to_memory_unless_the_caller_chose_a_directory(place: Path) -> None:
    assert chosen(place) == str(place)
    assert chosen(place, TMPDIR="elsewhere") == "elsewhere"
    assert chosen(place / "missing") is None


@pytest.mark.parametrize(
    "space",
    [{"files": FILES - 4096}, {"memory": FILES + PROCESSES - 1}, {"flags": os.ST_NOEXEC}],
    ids=["no space", "no memory", "no programs"],
)
def test_files_go_to_the_disk_if_memory_is_short_or_executes_no_programs(
    space: dict[str, int], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_space(monkeypatch, **space)
    assert chosen(place) is None
