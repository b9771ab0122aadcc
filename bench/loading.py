"""How long it takes to get the training images from disk into memory, by every way that is at hand, in turn.

    measure(runs) and table(result)                  our Parquet cache against torchvision, .npy and plain files
    measure_layouts(runs) and layout_table(result)   our Parquet cache against itself, laid out otherwise

The files are read from the page cache: each way reads its own once before it is counted. A ratio is taken within a
round; its median is what is reported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.data import default_dataset
from bench.layouts import LAYOUTS, Pixels, read_layout, write_layout
from bench.machine import describe, header, peak_memory_mb
from bench.readers import OURS, WAYS, Sources, Way, prepare
from bench.rounds import check_rounds, ratio, spread
from mnist_bp.data.parquet import load_split
from mnist_bp.results import CachedDataset, FileDigest

REPOSITORY: Final = Path(__file__).parents[1]
Progress = Callable[[str], None]


def measure(runs: int, on_progress: Progress | None = None, *, data: CachedDataset | None = None) -> dict[str, Any]:
    """Measure every way to read the training split.

    Args:
        runs: Counted rounds; one more comes before them.
        on_progress: Told in one line what is going on.
        data: Whose training split; None for MNIST, or the bundled sample where it cannot be had.

    Returns:
        JSON-ready: the machine, the dataset, and one entry for each way with its raw seconds.

    Raises:
        ConfigError: `runs` is below 1.
    """
    say, machine, data = on_progress or _silent, header(), _checked(runs, data)
    with tempfile.TemporaryDirectory() as directory:
        say("loading: writing the training images in every form")
        sources = prepare(data.train, Path(directory))
        seconds = in_turn(runs, {name: _reader(way, sources) for name, way in WAYS.items()}, say)
        ways = []
        for name, way in WAYS.items():
            say(f"loading: first load in a fresh process: {way.title}")
            ways.append(
                {
                    "name": name,
                    "title": way.title,
                    "size": sum(path.stat().st_size for path in way.files(sources)),
                    **spread(seconds[name]),
                    "ratio": ratio(seconds[name], seconds[OURS]),
                    **in_fresh_process(name, sources),
                }
            )
    about = {"machine": machine, "dataset": data.name, "images": data.train_examples, "runs": runs, "ratio_to": OURS}
    return {"bench": "loading", **about, "ways": ways}


def measure_layouts(
    runs: int, on_progress: Progress | None = None, *, data: CachedDataset | None = None
) -> dict[str, Any]:
    """Measure what each decision about the Parquet files costs: each layout differs from ours in one of them.

    Args, Returns and Raises: as `measure`; an entry under `ways` has `changed`, what differs from ours.
    """
    say, machine, data = on_progress or _silent, header(), _checked(runs, data)
    images, labels = load_split(data.train)
    with tempfile.TemporaryDirectory() as directory:
        paths = {layout.name: Path(directory, f"{number}.parquet") for number, layout in enumerate(LAYOUTS)}
        written = {}
        for layout in LAYOUTS:
            say(f"layouts: writing {layout.name}")
            started = time.perf_counter()
            write_layout(layout, images, labels, paths[layout.name])
            written[layout.name] = time.perf_counter() - started
        del images, labels
        readers = {layout.name: _layout_reader(layout.pixels, paths[layout.name]) for layout in LAYOUTS}
        seconds = in_turn(runs, readers, say)
        ways = [
            {
                **asdict(layout),
                "size": paths[layout.name].stat().st_size,
                "write_seconds": written[layout.name],
                **spread(seconds[layout.name]),
                "ratio": ratio(seconds[layout.name], seconds[LAYOUTS[0].name]),
            }
            for layout in LAYOUTS
        ]
    about = {"machine": machine, "dataset": data.name, "images": data.train_examples, "runs": runs}
    return {"bench": "layouts", **about, "ratio_to": LAYOUTS[0].name, "ways": ways}


def in_turn(runs: int, readers: Mapping[str, Callable[[], object]], say: Progress) -> dict[str, list[float]]:
    """Time functions round after round, each once in a round; round 0 is not counted.

    Returns:
        Seconds by name, one for each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(runs + 1):
        say(f"loading: round {number} of {runs}" if number else "loading: warming up")
        for name, read in readers.items():
            started = time.perf_counter()
            result = read()
            ended = time.perf_counter()
            del result  # before the next begins, so that each starts with the same memory
            if number:
                seconds[name].append(ended - started)
    return seconds


def in_fresh_process(name: str, sources: Sources) -> dict[str, float]:
    """Load once in a process of its own, as a run does: with what is imported on first use, and the memory it takes."""
    arguments = json.dumps([name, asdict(sources)], default=str)
    command = [sys.executable, "-c", "from bench.loading import _first_load; _first_load()", arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=REPOSITORY)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _first_load() -> None:
    """Be the process that `in_fresh_process` starts."""
    name, about = json.loads(sys.argv[1])
    sources = Sources(FileDigest(**about["parquet"]), Path(about["directory"]), tuple(about["sha256"]))
    before = peak_memory_mb()
    started = time.perf_counter()
    _split = WAYS[name].read(sources)
    print(json.dumps({"first_seconds": time.perf_counter() - started, "first_memory_mb": peak_memory_mb() - before}))


def table(result: dict[str, Any]) -> Table:
    """Lay out what `measure` found, one row for each way."""
    rows = _headed(result, "way", f"x {result['ratio_to']}", "first load, n = 1", "its memory")
    for way in result["ways"]:
        first, memory = f"{way['first_seconds'] * 1e3:,.0f} ms", f"{way['first_memory_mb']:,.0f} MB"
        rows.add_row(way["title"], *_figures(way), first, memory)
    return rows


def layout_table(result: dict[str, Any]) -> Table:
    """Lay out what `measure_layouts` found, one row for each layout."""
    rows = _headed(result, "what differs", f"x {result['ratio_to']}", "written in")
    for way in result["ways"]:
        rows.add_row(way["name"], *_figures(way), f"{way['write_seconds'] * 1e3:,.0f} ms")
    return rows


def _headed(result: dict[str, Any], first: str, *last: str) -> Table:
    title = f"{result['images']:,} images of {result['dataset']} into memory; median of n = {result['runs']} rounds"
    rows = Table(title=f"{title} in turn", caption=describe(result["machine"]), caption_justify="left")
    rows.add_column(first)
    for name in ("on disk", "median", "min to max", *last):
        rows.add_column(name, justify="right", no_wrap=True)
    return rows


def _figures(way: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        f"{way['bytes'] / 1e6:,.2f} MB",
        f"{way['median'] * 1e3:,.1f} ms",
        f"{way['min'] * 1e3:,.1f} to {way['max'] * 1e3:,.1f}",
        f"{way['ratio']:.2f}",
    )


def _reader(way: Way, sources: Sources) -> Callable[[], object]:
    return lambda: way.read(sources)


def _layout_reader(pixels: Pixels, path: Path) -> Callable[[], object]:
    return lambda: read_layout(pixels, path.read_bytes())


def _checked(runs: int, data: CachedDataset | None) -> CachedDataset:
    check_rounds(runs)
    return data or default_dataset()


def _silent(_: str) -> None:
    pass
