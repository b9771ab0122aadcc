"""What a Ray cluster costs: the same parts one after the other, on two threads, and on two nodes of one core each.

The three take turns on the same two cores, after their start-up; ratios are taken within a round. CPU is the user and
system time of the threads or processes that train.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.data import default_dataset
from bench.machine import header, version_of
from bench.ray_cluster import NODES, RayCluster, ray_cluster
from bench.rounds import Log, check_rounds, empty_table, ratio, rounds, silent, spread
from mnist_bp.config import RunConfig
from mnist_bp.layout import new_run_id
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.local_runner import train_parts
from mnist_bp.training.part_training import PartData, load_part_data, put_into_store, train_part
from mnist_bp.training.parts import Part, PartContext, PartResult, cut_into_parts
from mnist_bp.training.ray_connection import connected
from mnist_bp.training.ray_runner import ClusterRun

MODELS: Final = 8
"""Models of a part."""

PARTS: Final = 16
"""Parts of a round, in which all cores are busy."""

SHORT: Final = 64
"""Short parts of a round in which all cores are busy, to see what each costs more."""

SHORT_STEPS: Final = 100
"""Their steps."""

SINGLE: Final = 20
"""Short parts that are trained one at a time."""

OTHER: Final = "other processes"
"""Figure of the CPU of Ray's processes that do not train, and of the driver."""

WAYS: Final = {
    "serial": "one after the other",
    "local": f"{NODES} threads, --runner local",
    "ray": f"{NODES} Ray nodes",
}


def measure(
    runs: int, steps: int, log: Log = silent, *, data: CachedDataset | None = None, parts: int = PARTS
) -> dict[str, Any]:
    """Train the same parts in the three `WAYS` in turn, on a cluster that is started for it.

    Args:
        runs: Counted rounds; one warm-up round comes before them.
        steps: Steps of each model.
        log: Called with a line for each round.
        data: Dataset to train on; None for MNIST, or for the bundled sample if MNIST cannot be downloaded.
        parts: Parts of a round, of `MODELS` models each.

    Returns:
        JSON-ready: the machine, the raw figures in seconds, and the ratios.

    Raises:
        ConfigError: `runs` is below 1, or Ray is not installed.
        ClusterError: The cluster cannot be used.
    """
    check_rounds(runs)
    machine, data = header(), data or default_dataset()
    with tempfile.TemporaryDirectory() as directory, ray_cluster() as cluster, _connecting_to(cluster):
        context = _context(data, f"{directory}/artifacts")
        local, started = load_part_data(context), time.perf_counter()
        with connected() as ray:
            run = ClusterRun(ray, context)
            _use_every_node(run)
            startup = time.perf_counter() - started
            bench = _Bench(run, local, context, cluster)
            measured = [bench.round(_parts(parts, steps)) for _ in rounds("cluster", runs, log)][1:]
    return {
        "bench": "cluster",
        "machine": machine,
        "ray": version_of("ray"),
        "dataset": data.name,
        "runs": runs,
        "steps": steps,
        "parts": parts,
        "models": MODELS,
        "startup_seconds": startup,
        **summarize(measured),
    }


def summarize(measured: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Summarize the figures of all rounds, in seconds, and take ratios and differences within each round."""
    figures = {name: [each[name] for each in measured] for name in measured[0]}
    return {
        "figures": {name: spread(each) for name, each in figures.items()},
        "speed_ratio": ratio(figures["local"], figures["ray"]),
        "cpu_ratio": {way: ratio(figures[f"{way} cpu"], figures["serial cpu"]) for way in WAYS},
        "overhead": spread([(each["ray short"] - each["local short"]) * NODES / SHORT for each in measured]),
        "latency": spread([each["ray part"] - each["serial part"] for each in measured]),
    }


@contextmanager
def _connecting_to(cluster: RayCluster) -> Iterator[None]:
    """Let this process connect to the cluster."""
    before = dict(os.environ)
    os.environ.update(cluster.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _context(data: CachedDataset, artifacts: str) -> PartContext:
    return PartContext(
        run_id=new_run_id(),
        artifacts=artifacts,
        train=data.train,
        test=data.test,
        shape=data.shape,
        held_out=RunConfig(seeds=str(MODELS)).held_out(data.train_examples),
        engine="cpu",
        device="cpu",
        about={},
    )


def _parts(count: int, steps: int) -> list[Part]:
    """Make parts of `MODELS` models that differ in their seeds."""
    config = RunConfig(seeds=f"1..{count * MODELS}", steps=steps, checkpoint_every=steps)
    large = cut_into_parts(config)
    members = [member for part in large for member in part.members]
    few = [tuple(members[first : first + MODELS]) for first in range(0, len(members), MODELS)]
    return [replace(large[0], number=number, members=each) for number, each in enumerate(few)]


def _use_every_node(run: ClusterRun) -> None:
    """Let each node start its process, which loads the dataset."""
    parts, nodes = _parts(2 * NODES, 1), set[str]()
    run.find_node(parts[0])
    while len(nodes) < NODES:
        nodes |= {result.node for result in run.results(parts)}


class _Bench:
    """One round at a time.

    Args:
        run: Of a cluster that is in use.
        data: For training in this process.
        context: Of both.
        cluster: The cluster.
    """

    def __init__(self, run: ClusterRun, data: PartData, context: PartContext, cluster: RayCluster) -> None:
        self._run, self._data, self._context, self._cluster = run, data, context, cluster
        self._put = put_into_store(context)

    def round(self, parts: Sequence[Part]) -> dict[str, float]:
        """Train the parts in each way; return figures in seconds."""
        figures = {}
        figures["serial"], figures["serial cpu"] = self._timed(self._serially(parts), _own_cpu)
        figures["local"], figures["local cpu"] = self._timed(train_parts(parts, self._data, self._context), _own_cpu)
        other = self._cluster.cpu_seconds()[1] + _own_cpu()
        figures["ray"], figures["ray cpu"] = self._timed(
            self._run.results(parts), lambda: self._cluster.cpu_seconds()[0]
        )
        figures[OTHER] = self._cluster.cpu_seconds()[1] + _own_cpu() - other
        short = _parts(SHORT, SHORT_STEPS)
        figures["local short"], _ = self._timed(train_parts(short, self._data, self._context), _own_cpu)
        results: list[PartResult] = []
        figures["ray short"], _ = self._timed(self._run.results(short), _own_cpu, results)
        work = sum(each.seconds + each.evaluation_seconds + each.store_seconds for each in results)
        figures["outside"] = (figures["ray short"] * NODES - work) / SHORT
        alone = [
            (self._timed(self._serially([part]), _own_cpu)[0], self._timed(self._run.results([part]), _own_cpu)[0])
            for part in short[:SINGLE]
        ]
        figures["serial part"], figures["ray part"] = map(statistics.median, zip(*alone, strict=True))
        figures["no-op"] = statistics.median(_seconds(lambda: self._run.find_node(short[0])) for _ in range(SINGLE))
        return figures

    def _serially(self, parts: Iterable[Part]) -> Iterator[PartResult]:
        for part in parts:
            yield train_part(part, self._data, 1, self._put)

    def _timed(
        self, results: Iterator[PartResult], cpu: Callable[[], float], found: list[PartResult] | None = None
    ) -> tuple[float, float]:
        """Train all parts, into an empty store, and add the results to a list; return the wall time and the CPU."""
        shutil.rmtree(Path(self._context.artifacts, "runs"), ignore_errors=True)
        before, found = cpu(), [] if found is None else found
        seconds = _seconds(lambda: found.extend(results))
        return seconds, cpu() - before


def _own_cpu() -> float:
    return time.process_time()


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def table(result: dict[str, Any]) -> Table:
    """Show models per second and CPU per model of each way, and what a part costs more on Ray."""
    figures, models = result["figures"], result["parts"] * result["models"]
    busy, outside, alone = (_range(each, 1e3) for each in (result["overhead"], figures["outside"], result["latency"]))
    rows = empty_table(
        f"{result['parts']} parts of {result['models']} models, {result['steps']:,} steps, {result['dataset']}, "
        f"n = {result['runs']}",
        result["machine"],
        ("", "models/s", "min to max", "CPU ms per model", "min to max", "x serial"),
        f"Ray {result['ray']}: {result['speed_ratio']:.3f} x the models/s of {NODES} threads; "
        f"start-up {result['startup_seconds']:.1f} s",
        f"other processes of Ray and the driver: {_range(figures[OTHER], 1e3 / models)} ms of CPU per model",
        f"a part of {SHORT_STEPS} steps, cores busy: {outside} ms besides its work, {busy} ms longer than on a thread",
        f"one by itself: {alone} ms longer than the {_range(figures['serial part'], 1e3)} ms that it takes serially",
        f"a task that trains nothing: {_range(figures['no-op'], 1e3)} ms",
    )
    for way, title in WAYS.items():
        seconds, cpu = figures[way], figures[f"{way} cpu"]
        rates = [models / seconds[key] for key in ("median", "max", "min")]
        each = [1e3 * cpu[key] / models for key in ("median", "min", "max")]
        rows.add_row(
            title,
            f"{rates[0]:.1f}",
            f"{rates[1]:.1f} to {rates[2]:.1f}",
            f"{each[0]:.1f}",
            f"{each[1]:.1f} to {each[2]:.1f}",
            f"{result['cpu_ratio'][way]:.3f}",
        )
    return rows


def _range(figures: dict[str, Any], factor: float) -> str:
    median, least, most = (figures[key] * factor for key in ("median", "min", "max"))
    return f"{median:.1f} ({least:.1f} to {most:.1f})"
