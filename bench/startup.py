"""What a whole run costs besides its training steps, against an empty Prefect flow of two tasks, run in turn.

    python -m bench.startup --runs 5

Needs MNIST cached or reachable, as a run does; the first run of each is not counted. Also times the two cache hits.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mnist_bp.download import fetch_dataset
from mnist_bp.preprocess import preprocess_dataset

REPOSITORY = Path(__file__).parents[1]
EMPTY_FLOW = """
from prefect import flow, task

@task
def first():
    return 1

@task
def second(value):
    return value

@flow
def empty():
    return second(first())

if __name__ == "__main__":
    empty()
"""


def timed(command: Sequence[str]) -> tuple[float, str]:
    """Run a command to its end.

    Returns:
        Seconds, and what it printed on stdout.
    """
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def seconds_of(function: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each (default: 5)")
    runs = parser.parse_args().runs

    rows: dict[str, list[float]] = {
        name: []
        for name in ("whole run", "its training steps", "the rest", "empty flow", "ratio of the rest", "cache hits")
    }
    with tempfile.TemporaryDirectory() as directory:
        os.environ.update(MNIST_BP_DATA_DIR=f"{directory}/data", MNIST_BP_ARTIFACTS=f"{directory}/artifacts")
        data_dir, empty = Path(directory, "data"), Path(directory, "empty.py")
        empty.write_text(EMPTY_FLOW)
        for number in range(runs + 1):
            command = [sys.executable, str(REPOSITORY / "flows" / "train.py"), "--dataset", "mnist", "--json"]
            whole, printed = timed(command)
            alone, _ = timed([sys.executable, str(empty)])
            hits = seconds_of(lambda: preprocess_dataset(fetch_dataset("mnist", data_dir), data_dir))
            if number:
                steps = float(json.loads(printed)["train_seconds"])
                figures = (whole, steps, whole - steps, alone, (whole - steps) / alone, hits)
                for row, figure in zip(rows.values(), figures, strict=True):
                    row.append(figure)

    table = Table("seconds", "median", "min", "max", title=f"n = {runs}, in turn, {os.cpu_count()} cores")
    for name, row in rows.items():
        table.add_row(name, *(f"{figure:.3f}" for figure in (statistics.median(row), min(row), max(row))))
    Console().print(table)


if __name__ == "__main__":
    main()
