"""The project is written in plain technical English: turns that read as translated are not used.

The table of replacements, for authors:

    tell, told, tells of                  report, return, log, notify, show
    what is there, what came of it        the noun: contents, result
    nobody, somebody, whoever             no process, another process, the caller
    is gone, there is none                is missing, does not exist, is None
    can be had, could not be had          is available, could not be downloaded
    broken off, anew, meanwhile, by now   interrupted, again, in the meantime, already
    beside                                next to, alongside, besides
    is to be, are to be                   must, will
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[1]
WRITTEN: Final = (".py", ".js", ".md", ".html", ".yaml", ".toml", ".svg", "Makefile", "Dockerfile")

AVOIDED: Final = (
    r"tell(s|ing)?|told",
    r"nobody|somebody|whoever|whomever",
    r"(is|are|was|were) gone",
    r"(what|which) is there",
    r"there (is|are) none",
    r"(can|could|may|might) (not )?be had",
    r"br(eaks?|oke|oken) off",
    r"anew|meanwhile|by now|beside",
    r"(is|are|was|were) to be",
    r"came of (it|them)|comes? of (it|them)",
    r"(of|on) (its|their|one's|his) own",
    r"one's own",
    r"made up for",
)
PATTERN: Final = re.compile(rf"\b({'|'.join(AVOIDED)})\b".replace(" ", r"\s+"), re.IGNORECASE)


def tracked_texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    own = {"tests/test_english.py"}
    return [REPOSITORY / name for name in listed.splitlines() if name.endswith(WRITTEN) and name not in own]


def avoided_in(text: str) -> list[str]:
    """List the avoided turns in a text with their lines; in names, underscores separate words."""
    plain = text.replace("_", " ")
    return [f"line {plain.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in PATTERN.finditer(plain)]


@pytest.mark.parametrize("path", tracked_texts(), ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_the_text_uses_plain_english(path: Path) -> None:
    assert avoided_in(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "Tell whether it is running",
        "the file is gone",
        "MNIST could not be had",
        "a run that was broken\n    off",
        "def test_nobody_is_told() -> None: ...",
        "a server of its own",
    ],
)
def test_the_list_finds_what_it_names(text: str) -> None:
    assert avoided_in(text)
