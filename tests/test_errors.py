"""The errors, and the texts that their messages are made of."""

from __future__ import annotations

import pytest

from mnist_bp.errors import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1_000, "1,000 runs")])
def test_a_count_has_its_noun_in_the_right_number(number: int, text: str) -> None:
    assert counted(number, "run") == text
