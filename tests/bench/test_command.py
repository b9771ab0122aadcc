"""The parts of a run add up to it, and the table shows them all."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import pytest

from bench import command
from bench.command import PARTS, Process
from bench.machine import header
from mnist_bp.errors import ConfigError, MnistBpError

SUMMARY: dict[str, Any] = {"certificate": {"seconds": 0.25}, "train_seconds": 0.5}
RECORD = {
    "flow": (110.0, 120.0),
    "download": (111.0, 112.0),
    "preprocess": (112.0, 112.5),
    "train": (113.0, 116.0),
    "evaluate": (116.0, 117.0),
    "upload": (117.0, 119.0),
}
RUN = Process(started=100.0, spoke=102.0, ended=121.0, printed="")


def test_the_parts_of_a_run_add_up_to_it() -> None:
    parts = command.parts_of(RUN, SUMMARY, RECORD)
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) == pytest.approx(RUN.seconds)
    assert parts["imports"] == 2
    assert parts["server"] == 8
    assert parts["train_rest"] == 3 - 0.25 - 0.5
    assert parts["between"] == 2.5
    assert parts["end"] == 1


def test_the_table_has_a_row_for_every_part_and_the_ratio_is_taken_within_a_round() -> None:
    gathered = command._gather([command.parts_of(RUN, SUMMARY, RECORD)] * 3, [20.0, 60.0, 22.0], [10.0, 20.0, 20.0])
    assert gathered["ratio"]["median"] == 2
    about = {"machine": header(), "runs": 3, "steps": 10_000, "dataset": "mnist", "engine": "cpu"}
    result = json.loads(json.dumps({**about, **gathered, "loading": gathered["empty"]}))
    assert command.table(result).row_count == len(PARTS) + 4


def test_a_process_is_timed_from_its_start_over_its_first_word_to_its_end() -> None:
    script = (
        "import sys, time; time.sleep(.2); print('first', file=sys.stderr, flush=True); time.sleep(.2); print('{}')"
    )
    before = time.time()
    process = command._run([sys.executable, "-c", script], os.environ)
    assert process.spoke is not None
    assert before <= process.started
    assert process.spoke - process.started >= 0.2
    assert process.ended - process.spoke >= 0.2
    assert process.printed == "{}\n"


def test_a_run_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(MnistBpError, match="exit code 3: no such dataset"):
        command._run(
            [sys.executable, "-c", "import sys; print('no such dataset', file=sys.stderr); exit(3)"], os.environ
        )


def test_no_rounds_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds"):
        command.measure(0)
