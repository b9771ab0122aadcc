"""The table of training speed, and what happens to an implementation that cannot run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from bench import steps, steps_report
from bench.machine import header, one_thread, peak_memory_mb
from bench.peers import PEERS, Peer, Task
from bench.processes import REPOSITORY
from bench.steps import TASK, Runner
from bench.worker import WorkerError
from mnist_bp.errors import ConfigError
from mnist_bp.results.dataset import CachedDataset


def test_the_result_has_a_row_for_each_implementation_that_runs_and_a_reason_for_each_that_does_not(
    sample: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "broken", Peer("broken", "Broken", "no:Thing"))  # unknown to the worker's process
    logged: list[str] = []

    result = steps.measure(2, 40, ["numpy", "broken", "reference"], logged.append, data=sample, whole=60)

    assert [row["name"] for row in result["rows"]] == ["numpy", "reference"]
    numpy, reference = result["rows"]
    assert (numpy["steps_per_round"], reference["steps_per_round"]) == (40, 10)
    for row in result["rows"]:
        assert 0 < row["us_per_step"]["min"] <= row["us_per_step"]["median"] <= row["us_per_step"]["max"]
        assert 0 < row["accuracy"] <= 1
        assert row["whole_seconds"] > 0
    assert numpy["accuracy"] == reference["accuracy"]  # after so few steps they differ by rounding alone
    assert numpy["peak_memory_mb"] < reference["peak_memory_mb"] - 100  # torch
    assert len(numpy["seconds"]) == len(numpy["ours_us_per_step"]) == 2
    assert len(reference["seconds"]) == 4  # before and after the other
    assert (result["ratio_to"], reference["ratio"]) == ("reference", 1)
    (broken,) = result["skipped"]
    assert broken["reason"] == "its process ended, exit status 1: KeyError: 'broken'"
    assert f"Broken: skipped: {broken['reason']}" in logged
    assert json.loads(json.dumps(result)) == result

    assert steps_report.table(result).row_count == 2
    printed = Console(width=200, record=True, file=io.StringIO())
    printed.print(steps_report.table(result))
    for expected in ("NumPy, out=", "x reference", "Broken: skipped: its process ended", result["machine"]["cpu"]):
        assert expected in printed.export_text(clear=False)
    for name, first_bytes in (("bars.png", b"\x89PNG"), ("bars.svg", b"<?xml")):
        steps_report.plot(result, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(first_bytes)


def test_a_ratio_is_taken_turn_by_turn() -> None:
    def row(name: str, seconds: list[float], ours: list[float]) -> dict[str, object]:
        return {"name": name, "steps_per_round": 100, "seconds": seconds, "ours_us_per_step": ours}

    slow_second_turn = row("numpy", [8, 30, 9], [1e4, 10e4, 1e4])
    found = steps.summarize([slow_second_turn, row("cpu", [1, 1, 10, 1], [])], "cpu")
    assert [each["ratio"] for each in found] == [8, 1]
    assert found[0]["us_per_step"]["median"] == pytest.approx(90_000)


def test_without_ours_there_is_no_ratio(sample: CachedDataset) -> None:
    result = steps.measure(1, 10, ["numpy"], data=sample, whole=10)
    assert (result["ratio_to"], result["rows"][0]["ratio"]) == (None, None)
    assert steps_report.table(result).row_count == 1


def test_a_worker_that_is_killed_during_the_rounds_is_an_error_of_one_line(task: Task) -> None:
    (task.directory / "task.json").write_text(json.dumps({**TASK, "max_steps": 10}))
    with ExitStack() as stack:
        runner = Runner(PEERS["numpy"], task.directory, stack)
        assert runner.take_turn(10, counts=True) > 0
        runner.worker.process.kill()
        message = r"^bench: NumPy, out=: its process ended, killed by signal 9; leave it out with --only$"
        with pytest.raises(WorkerError, match=message):
            runner.take_turn(10, counts=True)


@pytest.mark.parametrize(
    ("runs", "number", "names", "expected"),
    [(0, 10, None, "0 rounds"), (1, 0, None, "0 steps"), (1, 1, ["abacus"], "abacus")],
)
def test_zero_rounds_zero_steps_and_unknown_names_are_refused_before_anything_starts(
    runs: int, number: int, names: list[str] | None, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        steps.measure(runs, number, names)


def test_the_header_describes_the_machine() -> None:
    found = header()
    assert {"cpu", "cores", "load_average_before", "memory_gb", "os", "python", "torch", "numpy", "numba"} == set(found)
    assert found["cores"] >= 1
    assert found["torch"].startswith("2.")
    assert json.loads(json.dumps(found)) == found


def test_peak_memory_is_that_of_the_process_and_not_of_its_parent() -> None:
    import torch  # makes this process a large one

    script = "from bench.machine import peak_memory_mb; print(peak_memory_mb())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert torch.__version__
    assert peak_memory_mb() > 150
    assert 5 < float(found.stdout) < 100


def test_a_worker_computes_on_one_thread() -> None:
    script = "import torch, numba; print(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY, env=one_thread()
    )
    assert found.stdout.split() == ["1", "1"]
