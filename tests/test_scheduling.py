"""The order in which several processes take files of tests."""

from __future__ import annotations

import pytest

from tests.support.scheduling import WAITING, next_file

FILES = ["tests/cli/a.py", f"{WAITING}b.py", f"{WAITING}c.py", "tests/data/d.py"]


@pytest.mark.parametrize(
    ("waits", "order"),
    [
        (True, [f"{WAITING}b.py", f"{WAITING}c.py", "tests/cli/a.py", "tests/data/d.py"]),
        (False, ["tests/cli/a.py", "tests/data/d.py", f"{WAITING}b.py", f"{WAITING}c.py"]),
    ],
)
def test_one_process_begins_with_the_tests_that_wait_and_the_others_end_with_them(
    waits: bool, order: list[str]
) -> None:
    taken, left = [], list(FILES)
    while left:
        taken.append(next_file(left, waits=waits))
        left.remove(taken[-1])
    assert taken == order
