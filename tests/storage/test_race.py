"""Compare-and-swap: of many processes that have read the same, one replaces it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.race import RACERS
from tests.support.s3_servers import S3Server

REPOSITORY = Path(__file__).parents[2]


def race(address: str, rounds: int) -> tuple[list[list[str]], list[str]]:
    """Let sixteen processes race.

    Returns:
        The racers' outcomes, by round; and what was there after each round.
    """
    command = [sys.executable, "-W", "error", "-m", "tests.support.race", address, str(rounds)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return [list(outcomes) for outcomes in zip(*told["outcomes"], strict=True)], told["history"]


def check(rounds: list[list[str]], history: list[str]) -> None:
    for number, (outcomes, there) in enumerate(zip(rounds, history, strict=True)):
        assert sorted(outcomes) == ["lost"] * (RACERS - 1) + ["won"]
        assert there == f"{number} {outcomes.index('won')}"


def test_of_sixteen_processes_one_wins_each_of_fifty_rounds_in_a_directory(tmp_path: Path) -> None:
    check(*race(str(tmp_path / "place"), 50))


def test_of_sixteen_processes_one_wins_each_round_on_s3_where_conditions_are_honoured(
    s3_server: S3Server, s3_bucket: str
) -> None:
    if not s3_server.honours_conditions:
        pytest.skip(f"{s3_server.name} lets all win; that the probe finds it out is tested in test_contract.py")
    check(*race(f"s3://{s3_bucket}/prefix", 10))


@pytest.mark.parametrize("outcomes", [["lost"] * 16, ["won"] * 2 + ["lost"] * 14])
def test_no_winner_and_two_are_found(outcomes: list[str]) -> None:
    with pytest.raises(AssertionError):
        check([outcomes], ["0 0"])
