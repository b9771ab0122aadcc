"""`mnist-bp reproduce lab-8-4`: compare the lab's published accuracy with that of many example orders.

The published initial weights are reproduced to the last digit. The published accuracy cannot be, because the order of
the examples is unknown and two orders differ by tens of images in a thousand. Therefore, the network is trained from
those weights under many orders, and the published counts are placed in the resulting distribution.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console

from mnist_bp.cli.console import logging_to, progress_bar
from mnist_bp.cli.file_names import PngFile
from mnist_bp.cli.flags import DataCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.tables import print_table
from mnist_bp.config import EngineChoice
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.parallel import check_memory, memory_needed, on_every_core
from mnist_bp.model.parameters import CLASSES, PIXELS
from mnist_bp.presets import PRESETS
from mnist_bp.report.png_plots import orders_png
from mnist_bp.results.common import Progress
from mnist_bp.results.dataset import LAB_EXAMPLES
from mnist_bp.storage.files import write_bytes
from mnist_bp.training.evaluation import Evaluator
from mnist_bp.training.loop import initial_models
from mnist_bp.training.trials import load_mnist, train_trials

logger = logging.getLogger(__name__)

PUBLISHED: Final = (752, 858, 882, 868, 891, 889, 905, 896, 897)
"""Correct of 1,000 after 1,000, 2,000, ... 9,000 steps; Source: the lab's printed output, without its tenth line."""


class ReproduceCommand(DataCommand, cli_prog_name="mnist-bp reproduce"):
    """Train the lab's network from its published initial weights under many example orders; compare the accuracy."""

    what: CliPositionalArg[Literal["lab-8-4"]]
    """What to reproduce: lab-8-4."""

    orders: int = Field(default=64, ge=2, le=100_000)
    """Number of example orders to train."""

    engine: EngineChoice = "auto"
    """Engine that computes the steps; auto = cuda from 8 orders on if there is a GPU, else cpu, else reference."""

    plot: PngFile = "reproduce-lab-8-4.png"
    """PNG file for the plot; an empty string for none."""


def main(arguments: Sequence[str]) -> int:
    """Reproduce, then print and plot the distribution."""
    command = parse(ReproduceCommand, arguments)
    console = Console(stderr=True)
    with logging_to(console), progress_bar(console, "train") as on_progress:
        report = reproduce(command.engine, command.orders, Path(command.data_dir), on_progress)
    if command.plot:
        write_bytes(Path(command.plot), orders_png(report["steps"], report["correct"], PUBLISHED))
    if command.json_output:
        say(json.dumps({**report, "plot": command.plot or None}))
        return 0
    rows = []
    for row in report["rows"]:
        published = ("", "") if row["published"] is None else (str(row["published"]), f"{row['z']:+.2f}")
        counts = (f"{row['mean']:.1f}", f"{row['standard_deviation']:.1f}", str(row["minimum"]), str(row["maximum"]))
        rows.append((f"{row['step']:,}", *counts, *published))
    headings = ("step", "mean", "std", "min", "max", "published", "z")
    say(report["title"], end="\n\n")
    print_table(headings, rows, right=headings)
    say(f"\nroot mean square z of the {len(PUBLISHED)} published counts: {report['rms_z']:.2f}")
    if report["notice"]:
        say(report["notice"])
    if command.plot:
        say(f"plot: {command.plot}")
    return 0


def reproduce(
    engine_name: EngineChoice, orders: int, data_dir: Path, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Train under many example orders, and place the published counts in their distribution.

    Args:
        engine_name: Engine that computes the steps.
        orders: Number of example orders.
        data_dir: Data directory.
        on_progress: Called with the steps taken, the steps of the run, and a note.

    Returns:
        A JSON-ready report: among others, `correct` (of 1,000; one row per order, one column per step), `rows` (one
        per step) and `rms_z`.
    """
    config = PRESETS["lab-8-4"]
    check_memory(memory_needed(orders, PIXELS, config.hidden, CLASSES, 60_000), orders)
    logger.info(f"reproduce   reading or downloading mnist in {data_dir}")
    examples, test = load_mnist(data_dir)
    engine, notice = choose_engine(engine_name, config.hidden, config.batch_size, orders)
    logger.info(f"reproduce   training {orders} networks for {config.steps:,} steps, {engine.name} engine")
    evaluator = Evaluator(engine, test.images[:LAB_EXAMPLES], test.labels[:LAB_EXAMPLES], config.recipe)
    models = initial_models(config, [config.seed]) * orders
    steps, correct = [], []
    for point in train_trials(config, engine, examples, models, range(1, orders + 1)):
        steps.append(point.step)
        correct.append([int(count or 0) for count in on_every_core(evaluator.lab_correct, point.models)])
        logger.info(f"reproduce   step {point.step:>9,} of {config.steps:,}")
        if on_progress:
            on_progress(point.step, config.steps, f"{orders} networks")
    rows = [_row(*row) for row in zip(steps, correct, (*PUBLISHED, None), strict=True)]
    squares = [row["z"] ** 2 for row in rows if row["z"] is not None]
    return {
        "title": f"correct of 1,000 under {orders} example orders, {engine.name} engine",
        "engine": engine.name,
        "notice": notice,
        "orders": orders,
        "steps": steps,
        "correct": [list(counts) for counts in zip(*correct, strict=True)],
        "rows": rows,
        "rms_z": fmean(squares) ** 0.5,
        "train_seconds": point.seconds,
    }


def _row(step: int, counts: Sequence[int], published: int | None) -> dict[str, Any]:
    mean, deviation = fmean(counts), stdev(counts)
    return {
        "step": step,
        "mean": mean,
        "standard_deviation": deviation,
        "minimum": min(counts),
        "maximum": max(counts),
        "published": published,
        "z": None if published is None else (published - mean) / (deviation or 1),
    }
