"""The errors, and the texts that their messages are made of."""

from __future__ import annotations

import importlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_bp.errors import DownloadError, MirrorFailure, MnistBpError, StoreError, counted

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1_000, "1,000 runs")])
def test_a_count_has_its_noun_in_the_right_number(number: int, text: str) -> None:
    assert counted(number, "run") == text


def kinds() -> Iterator[type[MnistBpError]]:
    """Yield all classes of errors of this project, wherever they are defined."""
    for path in (
        path for room in ("mnist_bp", "flows", "tasks", "deployments") for path in (ROOT / room).rglob("*.py")
    ):
        for name in re.findall(r"^class (\w+Error)\(", path.read_text(), re.MULTILINE):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            if issubclass(kind := getattr(module, name), MnistBpError):
                yield kind


def example_of(kind: type[MnistBpError]) -> MnistBpError:
    text = "s3://key:secret@host failed\n\x1b[1m: s3://key:secret@host"
    if issubclass(kind, DownloadError):
        return kind(text, [MirrorFailure("https://key:secret@host/", "interrupted", "refused")], "try again")
    return kind(text, transient=True) if issubclass(kind, StoreError) else kind(text)


def test_every_error_passes_to_another_process_with_its_text_and_attributes() -> None:
    found = list(kinds())
    assert len(found) >= 15
    assert {DownloadError, StoreError} < set(found)
    for kind in found:
        error = example_of(kind)
        error.add_note("on node 2")
        same = pickle.loads(pickle.dumps(error))
        assert type(same) is kind
        assert (str(same), same.args, vars(same)) == (str(error), error.args, vars(error))
        assert same.transient == error.transient == isinstance(error, DownloadError | StoreError)
        assert "secret" not in str(same)
