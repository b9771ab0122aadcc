"""Where the time of `python flows/train.py` goes when everything is cached, and how it compares with its peers.

The product has no code for this measurement. The parts of a run with its own Prefect server lie between moments that it
reports in any case: the process starts; its first line on stderr shows that imports are done; Prefect's records state
when the flow and each task began and ended; the summary states the seconds of the certificate and of the training
steps; the process ends. The parts add up to the run. Its peer is an empty Prefect flow of two tasks. Both are also run
on a Prefect server that is already running; and `mnist-bp train`, which needs no server, is compared with two imports.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.flow_records import TASKS, Interval, records_of
from bench.machine import header
from bench.processes import REPOSITORY, Process, run_process
from bench.rounds import Log, check_rounds, empty_table, rounds, silent, spread
from flows.runtime.server import LocalServer
from mnist_bp.data.download import fetch_dataset
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.results.common import FileDigest
from mnist_bp.storage.places import data_dir_from_environment

PARTS: Final[Mapping[str, str]] = {
    "imports": "interpreter and imports, to the first line on the terminal",
    "server": "Prefect's server and the start of the flow",
    "download": "download, found cached",
    "preprocess": "preprocess, found cached",
    "certificate": "train: certificate, unless an earlier run's is used",
    "steps": "train: steps",
    "train_rest": "train: imports, compiled code, images, checkpoints",
    "evaluate": "evaluate",
    "upload": "publish",
    "between": "Prefect between the tasks",
    "end": "end of Prefect and of the interpreter",
}

EMPTY_FLOW: Final = """
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

READ_IMAGES: Final = """
import sys, time
from mnist_bp.data.parquet import load_split
from mnist_bp.results.common import FileDigest

started = time.perf_counter()
load_split(FileDigest(sys.argv[1], sys.argv[2], int(sys.argv[3])))
print(time.perf_counter() - started)
"""

PAIRS: Final[Mapping[str, tuple[str, str]]] = {
    "own": ("flows/train.py with its own Prefect server", "an empty Prefect flow with its own server"),
    "running": ("flows/train.py on a running Prefect server", "an empty Prefect flow on a running server"),
    "local": ("mnist-bp train, less its training steps", 'python -c "import torch, pyarrow"'),
}
"""Our commands, and the peer that each is compared with in the same round."""


def measure(runs: int, log: Log = silent) -> dict[str, Any]:
    """Run our commands, each in turn with its peer, and split the time of the first into parts.

    Args:
        runs: Counted rounds of each; one more comes before them, which fills the caches.
        log: Called with a line for each round.

    Returns:
        JSON-ready: the machine, figures of the run's summary, under `parts` the raw seconds of each of `PARTS`, and
        under `pairs` for each of `PAIRS` the seconds of `ours` and of the `peer`, and their `ratio` within a round.
        `reading` is what reading the training images takes in a separate process; in the run it is part of
        `train_rest`.

    Raises:
        ConfigError: `runs` is below 1.
        MnistBpError: A run failed, or Prefect kept no record of it.
    """
    check_rounds(runs)
    machine = header()
    pairs, reading = _all_rounds(runs, log)
    ours = [process for process, _ in pairs["own"]]
    summaries = [json.loads(process.stdout) for process in ours]
    log("command: reading Prefect's records")
    records = records_of([summary["run_id"] for summary in summaries])
    split = [
        parts_of(process, summary, records[summary["run_id"]]) for process, summary in zip(ours, summaries, strict=True)
    ]
    return {
        "bench": "command",
        "machine": machine,
        "runs": runs,
        **{key: summaries[-1][key] for key in ("dataset", "engine", "device", "steps")},
        "parts": [
            {"name": name, "title": title, **spread([each[name] for each in split])} for name, title in PARTS.items()
        ],
        "pairs": {name: compare(name, pair) for name, pair in pairs.items()},
        "reading": spread(reading),
    }


def _all_rounds(runs: int, log: Log) -> tuple[dict[str, list[tuple[Process, Process]]], list[float]]:
    """Run the counted rounds of all `PAIRS`, and read the images as often, in a directory that is removed again."""
    data_dir = Path(data_dir_from_environment()).absolute()
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "empty.py")
        script.write_text(EMPTY_FLOW)
        environment = {
            **{
                name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
            },  # caches are warm
            "MNIST_BP_DATA_DIR": str(data_dir),
            "MNIST_BP_ARTIFACTS": f"{directory}/artifacts",
            "PREFECT_API_URL": "",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        python = sys.executable
        flow, empty = [python, str(REPOSITORY / "flows" / "train.py"), "--json"], [python, str(script)]
        local, imports = [python, "-m", "mnist_bp", "train", "--json"], [python, "-c", "import torch, pyarrow"]

        def in_turn(name: str, ours: list[str], peer: list[str], **changes: str) -> list[tuple[Process, Process]]:
            each = {**environment, **changes}
            pairs = [(run_process(ours, each), run_process(peer, each)) for _ in rounds(f"command, {name}", runs, log)]
            return pairs[1:]

        pairs = {"own": in_turn("own", flow, empty)}
        with LocalServer() as server:
            pairs["running"] = in_turn(
                "running", flow, empty, PREFECT_API_URL=server.url, PREFECT_API_AUTH_STRING=server.password
            )
        pairs["local"] = in_turn("local", local, imports)
        dataset = json.loads(pairs["own"][0][0].stdout)["dataset"]
        train = preprocess_dataset(fetch_dataset(dataset, data_dir), data_dir).train
        return pairs, reading_seconds(train, environment, runs)


def compare(name: str, pair: Sequence[tuple[Process, Process]]) -> dict[str, Any]:
    """Summarize the seconds of one of `PAIRS`, and their ratio within each round."""
    trained = [json.loads(run.stdout)["train_seconds"] if name == "local" else 0.0 for run, _ in pair]
    ours = [run.seconds - steps for (run, _), steps in zip(pair, trained, strict=True)]
    peer = [run.seconds for _, run in pair]
    ratios = [one / other for one, other in zip(ours, peer, strict=True)]
    return {"ours": spread(ours), "peer": spread(peer), "ratio": spread(ratios)}


def parts_of(process: Process, summary: Mapping[str, Any], record: Mapping[str, Interval]) -> dict[str, float]:
    """Split a run into parts that add up to it.

    Args:
        process: The run.
        summary: What it printed with `--json`.
        record: When its flow (`flow`) and each of its tasks began and ended, in seconds since 1970.

    Returns:
        Seconds of each of `PARTS`.
    """
    assert process.first_line is not None
    tasks = {name: record[name][1] - record[name][0] for name in TASKS}
    certified, steps = summary["certificate"], float(summary["train_seconds"])
    certificate = 0.0 if certified["reused"] else float(certified["seconds"])
    start, end = record["flow"]
    return {
        "imports": process.first_line - process.started,
        "server": start - process.first_line,
        "download": tasks["download"],
        "preprocess": tasks["preprocess"],
        "certificate": certificate,
        "steps": steps,
        "train_rest": tasks["train"] - certificate - steps,
        "evaluate": tasks["evaluate"],
        "upload": tasks["upload"],
        "between": end - start - sum(tasks.values()),
        "end": process.ended - end,
    }


def reading_seconds(split: FileDigest, environment: Mapping[str, str], runs: int) -> list[float]:
    """Time how long a fresh process takes to read the images of a split, once in each of several processes."""
    command = [sys.executable, "-c", READ_IMAGES, split.path, split.sha256, str(split.size)]
    return [float(run_process(command, environment).stdout) for _ in range(runs)]


def table(result: dict[str, Any]) -> Table:
    """Show the parts in their order, and every command with its peer."""
    title = (
        f"{result['steps']:,} steps on {result['dataset']}, {result['engine']} engine; seconds, n = {result['runs']}"
    )
    rows = empty_table(title, result["machine"], ("part of flows/train.py", "median", "min to max", "share, ratio"))
    whole = result["pairs"]["own"]["ours"]["median"]
    for part in result["parts"]:
        rows.add_row(part["title"], *_figures(part), f"{part['median'] / whole:.1%}")
    rows.add_section()
    rows.add_row("reading the images alone, in a separate process", *_figures(result["reading"]), "")
    for name, (ours, peer) in PAIRS.items():
        pair = result["pairs"][name]
        rows.add_section()
        rows.add_row(ours, *_figures(pair["ours"]), "")
        rows.add_row(peer, *_figures(pair["peer"]), "")
        rows.add_row("ratio, within a round", *_figures(pair["ratio"]), f"{pair['ratio']['median']:.2f} x")
    return rows


def _figures(figures: Mapping[str, Any]) -> tuple[str, str]:
    return f"{figures['median']:.3f}", f"{figures['min']:.3f} to {figures['max']:.3f}"
