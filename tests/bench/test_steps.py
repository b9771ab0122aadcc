"""The table of training speed: what is in it, and what happens to a way that cannot run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import steps
from bench.machine import header, one_thread, peak_memory_mb
from bench.peers import PEERS, Peer, Task
from bench.processes import REPOSITORY, Worker, WorkerError
from bench.turns import TASK
from mnist_bp.errors import ConfigError
from mnist_bp.results import CachedDataset


def test_the_result_has_a_row_for_each_way_that_runs_and_one_line_for_each_that_does_not(
    sample: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "absent", Peer("absent", "Absent", "no:Thing", ("no_such_library",)))
    monkeypatch.setitem(PEERS, "broken", Peer("broken", "Broken", "no:Thing", ()))  # a worker does not know of it
    said: list[str] = []

    names = ["numpy", "absent", "broken", "reference"]
    result = steps.measure(2, 40, names, said.append, data=sample, whole=60)

    assert [way["name"] for way in result["ways"]] == ["numpy", "reference"]
    numpy, reference = result["ways"]
    assert (numpy["steps_per_round"], reference["steps_per_round"]) == (40, 10)
    for way in result["ways"]:
        assert len(way["seconds"]) == len(way["cpu_seconds"])
        assert 0 < way["us_per_step"]["min"] <= way["us_per_step"]["median"] <= way["us_per_step"]["max"]
        assert 0 < way["accuracy"] <= 1
        assert way["whole_seconds"] > 0
    assert numpy["accuracy"] == reference["accuracy"]  # so few steps apart by rounding alone
    assert numpy["peak_memory_mb"] < reference["peak_memory_mb"] - 100  # torch
    assert len(numpy["seconds"]) == len(numpy["ours_us_per_step"]) == 2
    assert len(reference["seconds"]) == 4  # before and after every other
    assert (result["ratio_to"], reference["ratio"]) == ("reference", 1)
    absent, broken = result["skipped"]
    assert absent["reason"] == "no_such_library is not installed"
    assert broken["reason"] == "its process ended, exit status 1: KeyError: 'broken'"
    assert "Absent: skipped: no_such_library is not installed" in said
    assert json.loads(json.dumps(result)) == result

    assert steps.table(result).row_count == 2
    printed = Console(width=200, record=True, file=io.StringIO())
    printed.print(steps.table(result))
    for expected in ("NumPy, out=", "x reference", "Absent: skipped: no_such_library", result["machine"]["cpu"]):
        assert expected in printed.export_text(clear=False)
    for name, first_bytes in (("bars.png", b"\x89PNG"), ("bars.svg", b"<?xml")):
        steps.plot(result, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(first_bytes)


def test_a_ratio_is_taken_turn_by_turn() -> None:
    def row(name: str, seconds: list[float], ours: list[float]) -> dict[str, object]:
        figures = {"seconds": seconds, "cpu_seconds": seconds, "ours_us_per_step": ours}
        return {"name": name, "steps_per_round": 100, **figures}

    slow_second_turn = row("numpy", [8, 30, 9], [1e4, 10e4, 1e4])
    ours_died = row("sklearn", [1, 1, 1], [1e4, 1e4])
    found = steps.summarize([slow_second_turn, ours_died, row("cpu", [1, 1, 10, 1], [])], "cpu")
    assert [way["ratio"] for way in found] == [8, None, 1]
    assert found[0]["us_per_step"]["median"] == pytest.approx(90_000)


def test_without_ours_there_is_no_ratio(sample: CachedDataset) -> None:
    result = steps.measure(1, 10, ["numpy"], data=sample, whole=10)
    assert (result["ratio_to"], result["ways"][0]["ratio"]) == (None, None)
    assert steps.table(result).row_count == 1


def test_a_worker_that_is_killed_is_told_in_one_line(task: Task) -> None:
    about = {**TASK, "steps": 10}
    (task.directory / "task.json").write_text(json.dumps(about))
    with Worker("numpy", task.directory) as worker:
        assert worker.ask({"steps": 10, "accuracy": True})["seconds"] > 0
        worker._process.kill()
        with pytest.raises(WorkerError, match=r"^its process ended, killed by signal 9$"):
            worker.ask({"steps": 10})


@pytest.mark.parametrize(
    ("runs", "number", "names", "told"),
    [(0, 10, None, "0 rounds"), (1, 0, None, "0 steps"), (1, 1, ["abacus"], "abacus")],
)
def test_nonsense_is_refused_before_anything_starts(runs: int, number: int, names: list[str] | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        steps.measure(runs, number, names)


def test_the_header_describes_the_machine() -> None:
    found = header()
    assert {"cpu", "cores", "load_average_before", "memory_gb", "os", "python", "torch", "numpy", "numba"} == set(found)
    assert found["cores"] >= 1
    assert found["torch"].startswith("2.")
    assert json.loads(json.dumps(found)) == found


def test_peak_memory_is_a_processes_own_and_not_its_parents() -> None:
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
