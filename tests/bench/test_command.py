"""The parts of a run add up to it, and the table shows all of them."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import pytest

from bench import command
from bench.command import PAIRS, PARTS
from bench.machine import header
from bench.processes import Process, run_process
from mnist_bp.errors import ConfigError, MnistBpError
from mnist_bp.results.dataset import CachedDataset

SUMMARY: dict[str, Any] = {"certificate": {"seconds": 0.25, "reused": False}, "train_seconds": 0.5}
RECORD = {
    "flow": (110.0, 120.0),
    "download": (111.0, 112.0),
    "preprocess": (112.0, 112.5),
    "train": (113.0, 116.0),
    "evaluate": (116.0, 117.0),
    "upload": (117.0, 119.0),
}
RUN = Process(started=100.0, first_line=102.0, ended=121.0, stdout="")


def test_the_parts_of_a_run_add_up_to_it() -> None:
    parts = command.parts_of(RUN, SUMMARY, RECORD)
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) == pytest.approx(RUN.seconds)
    assert parts["imports"] == 2
    assert parts["server"] == 8
    assert parts["train_rest"] == 3 - 0.25 - 0.5
    assert parts["between"] == 2.5
    assert parts["end"] == 1


def test_the_certificate_of_an_earlier_run_takes_no_time() -> None:
    reused = {**SUMMARY, "certificate": {"seconds": 0.25, "reused": True}}
    parts = command.parts_of(RUN, reused, RECORD)
    assert (parts["certificate"], parts["train_rest"]) == (0, 3 - 0.5)
    assert sum(parts.values()) == pytest.approx(RUN.seconds)


def lasting(seconds: float, stdout: str = "{}") -> Process:
    return Process(started=0.0, first_line=None, ended=seconds, stdout=stdout)


def test_ratios_are_taken_within_a_round_and_the_local_command_is_counted_without_its_training_steps() -> None:
    rounds = [(lasting(ours, '{"train_seconds": 2}'), lasting(peer)) for ours, peer in [(20, 10), (60, 20), (22, 20)]]
    assert command.compare("own", rounds)["ratio"]["seconds"] == [2, 3, 1.1]
    local = command.compare("local", rounds)
    assert local["ours"]["seconds"] == [18, 58, 20]
    assert local["ratio"]["median"] == 1.8


def test_the_table_has_a_row_for_every_part_and_three_for_every_pair() -> None:
    spread = {"seconds": [1.0], "median": 1.0, "min": 1.0, "max": 1.0}
    result = {
        "machine": header(),
        "runs": 1,
        "steps": 10_000,
        "dataset": "mnist",
        "engine": "cpu",
        "reading": spread,
        "parts": [{"name": name, "title": title, **spread} for name, title in PARTS.items()],
        "pairs": {name: {"ours": spread, "peer": spread, "ratio": spread} for name in PAIRS},
    }
    assert command.table(json.loads(json.dumps(result))).row_count == len(PARTS) + 1 + 3 * len(PAIRS)


def test_a_process_is_timed_at_its_start_at_its_first_line_on_stderr_and_at_its_end() -> None:
    script = (
        "import sys, time; time.sleep(.2); print('first', file=sys.stderr, flush=True); time.sleep(.2); print('{}')"
    )
    before = time.time()
    process = run_process([sys.executable, "-c", script], os.environ)
    assert process.first_line is not None
    assert before <= process.started
    assert process.first_line - process.started >= 0.2
    assert process.ended - process.first_line >= 0.2
    assert process.stdout == "{}\n"


def test_a_run_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(MnistBpError, match="exit code 3: no such dataset"):
        run_process(
            [sys.executable, "-c", "import sys; print('no such dataset', file=sys.stderr); exit(3)"], os.environ
        )


def test_reading_the_images_is_timed_in_a_fresh_process_each_time(sample: CachedDataset) -> None:
    seconds = command.reading_seconds(sample.train, os.environ, 2)
    assert len(seconds) == 2
    assert all(0 < each < 10 for each in seconds)


def test_zero_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds"):
        command.measure(0)
