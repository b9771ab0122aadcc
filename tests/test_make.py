"""The Makefile: what it prints when something is wrong, and while something takes long."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

from tests.test_docs import PAGES, commands_of

REPOSITORY: Final = Path(__file__).parents[1]
# without what the make that runs the tests passes on: it would print the directories that it enters
ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
}


def test_a_python_that_does_not_exist_is_one_clear_line(tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", f"VENV={tmp_path}/venv", "PYTHON=nosuch", "setup"],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 2
    (line,) = made.stderr.splitlines()
    assert "PYTHON=nosuch: no such program; expected Python 3.11 or later" in line
    assert made.stdout == ""


def test_a_long_setup_shows_signs_of_life_and_fails_if_the_installer_does(tmp_path: Path) -> None:
    installer, ready = tmp_path / "venv/uv/bin/uv", tmp_path / "ready"
    installer.parent.mkdir(parents=True)
    installer.write_text(f'#!/bin/sh\ncase "$*" in *sync*) while [ ! -e {ready} ]; do sleep 0.1; done; exit 3;; esac\n')
    installer.chmod(0o755)
    with subprocess.Popen(
        ["make", f"VENV={tmp_path}/venv", f"UV={installer}", "setup"],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as made:
        assert made.stdout is not None
        try:
            lines = iter(made.stdout)
            assert next(lines).startswith("building ")
            doing = r"  downloading, unpacking and compiling \d{2,} packages, still working \(5 s\)\n"
            assert re.fullmatch(doing, next(lines))
        finally:
            ready.touch()
    assert made.returncode != 0


def test_what_the_commands_of_the_pages_write_is_ignored_by_git(tmp_path: Path) -> None:
    """The files that a flag names, and the default places of data, runs and pictures."""
    named = ["data/raw", "artifacts/runs", ".venv/bin", "reproduce-lab-8-4.png"]
    for page in PAGES:
        for line in commands_of(page):
            named += [
                word for flag, word in re.findall(r"(--plot|--data-dir) ([\w./-]+)", shlex.join(shlex.split(line)))
            ]
    assert "nights.png" in named
    (tmp_path / ".gitignore").write_bytes((REPOSITORY / ".gitignore").read_bytes())
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, env=environment, check=True)
    for name in named:
        ignored = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=tmp_path, env=environment)
        assert ignored.returncode == 0, name
