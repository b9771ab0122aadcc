"""Conditional creation: of many processes that put a file under one key at the same time, exactly one succeeds."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import pytest

from mnist_bp.errors import ConflictError
from mnist_bp.storage.address import open_store
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.race import RACERS, TIMEOUT_S, run_race
from tests.support.s3_servers import S3Server

KEY: Final = "champion/mnist/{:08}.json"


def put_in_rounds(place: int, barrier: Barrier, address: str, rounds: int) -> list[tuple[bool, bytes]]:
    """Put one file in every round; return whether each put succeeded, and the content that was read after it."""
    store, results = open_store(address), []
    for number in range(rounds):
        key, content = KEY.format(number), b"%d %d" % (number, place)
        barrier.wait(TIMEOUT_S)
        try:
            store.put(key, content, sha256_of_bytes(content))
            won = True
        except ConflictError:
            won = False
        barrier.wait(TIMEOUT_S)
        results.append((won, store.get(key)))
    return results


def assert_one_winner_each(rounds: list[list[tuple[bool, bytes]]]) -> None:
    """Check rounds, each a list of results by place."""
    for number, results in enumerate(rounds):
        outcomes = [outcome for outcome, _ in results]
        assert sorted(outcomes) == [False] * (RACERS - 1) + [True]
        assert {content for _, content in results} == {b"%d %d" % (number, outcomes.index(True))}


def race(address: str, rounds: int) -> list[list[tuple[bool, bytes]]]:
    return [list(results) for results in zip(*run_race(put_in_rounds, address, rounds), strict=True)]


def test_of_16_processes_one_wins_each_of_50_rounds_in_a_directory(tmp_path: Path) -> None:
    assert_one_winner_each(race(str(tmp_path / "place"), 50))


def test_of_16_processes_one_wins_each_round_on_s3_where_conditions_are_honoured(
    s3_server: S3Server, s3_bucket: str
) -> None:
    if not s3_server.honours_conditions:
        pytest.skip(f"{s3_server.name} ignores conditions; test_contract.py claims that the probe finds it")
    assert_one_winner_each(race(f"s3://{s3_bucket}/prefix", 10))


@pytest.mark.parametrize("winners", [0, 2])
def test_no_winner_and_two_winners_are_found(winners: int) -> None:
    won: tuple[bool, bytes] = (True, b"0 0")
    lost: tuple[bool, bytes] = (False, b"0 0")
    with pytest.raises(AssertionError):
        assert_one_winner_each([[won] * winners + [lost] * (RACERS - winners)])


def fail_at_place_3(place: int, barrier: Barrier) -> None:
    if place == 3:
        raise ValueError("place 3")
    barrier.wait(TIMEOUT_S)


def test_an_error_in_one_process_ends_the_race_with_that_error() -> None:
    with pytest.raises(ValueError, match="place 3"):
        run_race(fail_at_place_3)
