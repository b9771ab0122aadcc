"""Compare-and-swap: of many processes that have read the same version, exactly one replaces it."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import pytest

from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import SwapOutcome
from tests.support.race import RACERS, TIMEOUT_S, run_race
from tests.support.s3_servers import S3Server

KEY: Final = "champion/mnist.json"


def swap_in_rounds(place: int, barrier: Barrier, address: str, rounds: int) -> list[tuple[SwapOutcome, bytes]]:
    """Swap one file in every round; return each round's outcome, and the content that was read after it."""
    store, results = open_store(address), []
    for number in range(rounds):
        found = store.read(KEY)
        barrier.wait(TIMEOUT_S)
        outcome = store.compare_and_swap(KEY, b"%d %d" % (number, place), found.version if found else None)
        barrier.wait(TIMEOUT_S)
        results.append((outcome, store.get(KEY)))
        barrier.wait(TIMEOUT_S)
    return results


def assert_one_winner_each(rounds: list[list[tuple[SwapOutcome, bytes]]]) -> None:
    """Check rounds, each a list of results by place."""
    for number, results in enumerate(rounds):
        outcomes = [outcome for outcome, _ in results]
        assert sorted(outcomes) == ["lost"] * (RACERS - 1) + ["won"]
        assert {content for _, content in results} == {b"%d %d" % (number, outcomes.index("won"))}


def race(address: str, rounds: int) -> list[list[tuple[SwapOutcome, bytes]]]:
    return [list(results) for results in zip(*run_race(swap_in_rounds, address, rounds), strict=True)]


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
    won: tuple[SwapOutcome, bytes] = ("won", b"0 0")
    lost: tuple[SwapOutcome, bytes] = ("lost", b"0 0")
    with pytest.raises(AssertionError):
        assert_one_winner_each([[won] * winners + [lost] * (RACERS - winners)])


def fail_at_place_3(place: int, barrier: Barrier) -> None:
    if place == 3:
        raise ValueError("place 3")
    barrier.wait(TIMEOUT_S)


def test_an_error_in_one_process_ends_the_race_with_that_error() -> None:
    with pytest.raises(ValueError, match="place 3"):
        run_race(fail_at_place_3)
