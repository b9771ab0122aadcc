"""Where the time of the whole command goes, everything cached: `python flows/train.py`, and its peers beside it.

    measure(runs) and table(result)

Nothing in the product is there for this measurement's sake. The parts of a run with a Prefect server of its own lie
between moments that it tells anyway: the process starts; its first line on stderr says that imports are done; Prefect's
own records say when the flow and each task began and ended; the summary says what the certificate and the training
steps took; the process ends. They add up to the run. Its peer is a stock empty Prefect flow of two tasks. Both run once
more on a Prefect server that is there already; and `mnist-bp train`, which needs none, beside two imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.flow_records import TASKS, Interval, records_of
from bench.machine import describe, header
from bench.rounds import check_rounds, spread
from flows.runtime.server import LocalServer
from mnist_bp.config import data_dir_from_environment
from mnist_bp.data.download import fetch_dataset
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.errors import MnistBpError
from mnist_bp.results import FileDigest

REPOSITORY: Final = Path(__file__).parents[1]
Progress = Callable[[str], None]

PARTS: Final[Mapping[str, str]] = {
    "imports": "interpreter and imports, to the first line on the terminal",
    "server": "Prefect's server and the start of the flow",
    "download": "download, found cached",
    "preprocess": "preprocess, found cached",
    "certificate": "train: certificate",
    "steps": "train: steps",
    "train_rest": "train: imports, compiled code, images, checkpoints",
    "evaluate": "evaluate",
    "upload": "publish",
    "between": "Prefect between the tasks",
    "end": "Prefect's end, and the interpreter's",
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
from mnist_bp.results import FileDigest

started = time.perf_counter()
load_split(FileDigest(sys.argv[1], sys.argv[2], size=0))
print(time.perf_counter() - started)
"""

PAIRS: Final[Mapping[str, tuple[str, str]]] = {
    "own": ("flows/train.py with a Prefect server of its own", "an empty Prefect flow, likewise"),
    "running": ("flows/train.py on a Prefect server that runs", "an empty Prefect flow, likewise"),
    "local": ("mnist-bp train, less its training steps", 'python -c "import torch, pyarrow"'),
}
"""Commands of ours, and what each is held against in the same round."""


@dataclass(frozen=True)
class Process:
    """A command that has ended; times are seconds since 1970.

    Args:
        started: Before it was started.
        spoke: When its first line on stderr arrived, or None.
        ended: After it ended.
        printed: Its stdout.
    """

    started: float
    spoke: float | None
    ended: float
    printed: str

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.ended - self.started


def measure(runs: int, on_progress: Progress | None = None, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Run our commands, each in turn with its peer, and split the time of the first into parts.

    Args:
        runs: Counted rounds of each; one more comes before them, which fills the caches.
        on_progress: Told in one line what is going on.
        flags: For our commands, as on the command line.

    Returns:
        JSON-ready: the machine, the run's summary figures, under `parts` one entry for each part with its raw seconds,
        and under `pairs` for each of `PAIRS` the seconds of `ours` and of the `peer`, and their `ratio` within a round.
        `loading` is what reading the training images takes in a process of its own; in the run it is part of
        `train_rest`.

    Raises:
        ConfigError: `runs` is below 1.
        MnistBpError: A run failed, or Prefect kept no record of it.
    """
    check_rounds(runs)
    say, machine = on_progress or (lambda _: None), header()
    pairs, loading = _all_rounds(runs, flags, say)
    ours = [process for process, _ in pairs["own"]]
    summaries = [json.loads(process.printed) for process in ours]
    say("command: asking Prefect for its records")
    records = records_of([summary["run_id"] for summary in summaries])
    split = [
        parts_of(process, summary, records[summary["run_id"]]) for process, summary in zip(ours, summaries, strict=True)
    ]
    return {
        "bench": "command",
        "machine": machine,
        "flags": list(flags),
        "runs": runs,
        **{key: summaries[-1][key] for key in ("dataset", "engine", "device", "steps")},
        "parts": [
            {"name": name, "title": title, **spread([each[name] for each in split])} for name, title in PARTS.items()
        ],
        "pairs": {name: compare(name, rounds) for name, rounds in pairs.items()},
        "loading": spread(loading),
    }


def _all_rounds(
    runs: int, flags: Sequence[str], say: Progress
) -> tuple[dict[str, list[tuple[Process, Process]]], list[float]]:
    """Make the counted rounds of all `PAIRS`, and as many readings of the images, in a place that is removed again."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "empty.py")
        script.write_text(EMPTY_FLOW)
        environment = {
            **os.environ,
            "MNIST_BP_DATA_DIR": str(Path(data_dir_from_environment()).absolute()),
            "MNIST_BP_ARTIFACTS": f"{directory}/artifacts",
            "PREFECT_API_URL": "",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        python, end = sys.executable, ["--json", *flags]
        flow, empty = [python, str(REPOSITORY / "flows" / "train.py"), *end], [python, str(script)]
        local, imports = [python, "-m", "mnist_bp", "train", *end], [python, "-c", "import torch, pyarrow"]
        pairs = {"own": _in_turn("own", flow, empty, environment, runs, say)}
        with LocalServer() as server:
            there = {**environment, "PREFECT_API_URL": server.url}
            pairs["running"] = _in_turn("running", flow, empty, there, runs, say)
        pairs["local"] = _in_turn("local", local, imports, environment, runs, say)
        dataset = json.loads(pairs["own"][0][0].printed)["dataset"]
        data_dir = Path(environment["MNIST_BP_DATA_DIR"])
        train = preprocess_dataset(fetch_dataset(dataset, data_dir), data_dir).train
        return pairs, reading_seconds(train, environment, runs)


def _in_turn(
    name: str,
    ours: Sequence[str],
    peer: Sequence[str],
    environment: Mapping[str, str],
    runs: int,
    say: Progress,
) -> list[tuple[Process, Process]]:
    """Run two commands in turn; the first round does not count."""
    rounds = []
    for number in range(runs + 1):
        say(f"command: {name}, round {number} of {runs}" if number else f"command: {name}, warming up")
        rounds.append((run_process(ours, environment), run_process(peer, environment)))
    return rounds[1:]


def compare(name: str, rounds: Sequence[tuple[Process, Process]]) -> dict[str, Any]:
    """Put the seconds of one of `PAIRS` together, and their ratio within each round."""
    trained = [json.loads(run.printed)["train_seconds"] if name == "local" else 0.0 for run, _ in rounds]
    ours = [run.seconds - steps for (run, _), steps in zip(rounds, trained, strict=True)]
    peer = [run.seconds for _, run in rounds]
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
    assert process.spoke is not None
    tasks = {name: record[name][1] - record[name][0] for name in TASKS}
    certificate, steps = float(summary["certificate"]["seconds"]), float(summary["train_seconds"])
    start, end = record["flow"]
    return {
        "imports": process.spoke - process.started,
        "server": start - process.spoke,
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


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Run a command to its end, noting when it first says something on stderr."""
    with tempfile.TemporaryFile("w+") as printed:
        started, spoke, lines = time.time(), None, []
        with subprocess.Popen(
            command, stdout=printed, stderr=subprocess.PIPE, text=True, env=dict(environment), cwd=REPOSITORY
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                spoke = spoke or time.time()
                lines.append(line.strip())
            code = process.wait()
            ended = time.time()
        if code:
            raise MnistBpError(f"{' '.join(command)}: exit code {code}: {lines[-1] if lines else 'it said nothing'}")
        printed.seek(0)
        return Process(started, spoke, ended, printed.read())


def reading_seconds(split: FileDigest, environment: Mapping[str, str], runs: int) -> list[float]:
    """Time how long a fresh process takes to read the images of a split, once in each of several processes."""
    command = [sys.executable, "-c", READ_IMAGES, split.path, split.sha256]
    return [float(run_process(command, environment).printed) for _ in range(runs)]


def table(result: dict[str, Any]) -> Table:
    """Lay out what `measure` found: the parts in their order, and every command beside its peer."""
    title = (
        f"{result['steps']:,} steps on {result['dataset']}, {result['engine']} engine; seconds, n = {result['runs']}"
    )
    rows = Table(title=title, caption=describe(result["machine"]), caption_justify="left")
    rows.add_column("part of flows/train.py with a Prefect server of its own")
    for name in ("median", "min to max", "share, ratio"):
        rows.add_column(name, justify="right", no_wrap=True)
    whole = result["pairs"]["own"]["ours"]["median"]
    for part in result["parts"]:
        rows.add_row(part["title"], *_figures(part), f"{part['median'] / whole:.1%}")
    rows.add_section()
    rows.add_row("reading the images alone, in a process of its own", *_figures(result["loading"]), "")
    for name, (ours, peer) in PAIRS.items():
        pair = result["pairs"][name]
        rows.add_section()
        rows.add_row(ours, *_figures(pair["ours"]), "")
        rows.add_row(peer, *_figures(pair["peer"]), "")
        rows.add_row("ratio, within a round", *_figures(pair["ratio"]), f"{pair['ratio']['median']:.2f} x")
    return rows


def _figures(figures: Mapping[str, Any]) -> tuple[str, str]:
    return f"{figures['median']:.3f}", f"{figures['min']:.3f} to {figures['max']:.3f}"
