"""`mnist-bp compare A B`: compare two published runs, on the test images of their dataset."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic_settings import CliPositionalArg
from rich.console import Console

from mnist_bp.cli.console import logging_to, progress_bar
from mnist_bp.cli.file_names import HtmlFile
from mnist_bp.cli.flags import DataCommand, StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.tables import print_table, setting_text
from mnist_bp.cli.unfinished import naming_unfinished
from mnist_bp.config import EngineChoice
from mnist_bp.data.datasets import DATASETS
from mnist_bp.data.download import fetch
from mnist_bp.data.own.address import is_own, recorded_dataset
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ConfigError, counted
from mnist_bp.registry.comparison import EnginePredictor, PublishedModel, read_published_model
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.run_comparison import check_comparable, compare_runs
from mnist_bp.report.comparison import Comparison, DisputedImage
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.training.workspace import list_run_ids

logger = logging.getLogger(__name__)

MAX_LISTED: Final = 10
"""Images of each run that are listed; `--json` lists all."""


class CompareCommand(StoreCommand, DataCommand, cli_prog_name="mnist-bp compare"):
    """Compare two runs of one dataset: settings, accuracy, McNemar's test, classes, images that one alone reads."""

    a: CliPositionalArg[str]
    """The first run: its id, at least 6 characters of its start, latest, champion, or an alias."""

    b: CliPositionalArg[str]
    """The second run."""

    engine: EngineChoice = "auto"
    """Engine that computes the predictions; auto = cpu, else reference."""

    html: HtmlFile = ""
    """Write the comparison to this HTML file as well, with the images that one run alone reads."""


def main(arguments: Sequence[str]) -> int:
    """Compare two runs, and print the comparison."""
    command = parse(CompareCommand, arguments)
    store, console = command.store, Console(stderr=True)
    a, b = (_published(command, store, name) for name in (command.a, command.b))
    check_comparable(a, b)
    with logging_to(console):
        data = _dataset(a.manifest, Path(command.data_dir), console)
        comparison = compare_runs(a, b, EnginePredictor(store, data, command.engine))
    if command.html:
        from mnist_bp.data.parquet import load_split
        from mnist_bp.report.comparison import comparison_html

        write_bytes(Path(command.html), comparison_html(comparison, load_split(data.test)[0], data.shape))
    if command.json_output:
        say(json.dumps({**asdict(comparison), "verdict": comparison.verdict, "html": command.html or None}))
    else:
        _print(comparison)
        if command.html:
            say(f"\npage: {command.html}")
    return 0


def _published(command: CompareCommand, store: Store, name: str) -> PublishedModel:
    run_id = resolve_run(store, name, list_run_ids(command.data_dir))
    with naming_unfinished(command.data_dir, command.artifacts, run_id):
        return read_published_model(store, run_id)


def _dataset(manifest: Manifest, data_dir: Path, console: Console) -> CachedDataset:
    name = recorded_dataset(manifest.config, manifest.dataset.name)
    if name not in DATASETS and not is_own(name):
        raise ConfigError(f"{name}: this version has no such dataset, expected one of {', '.join(DATASETS)}")
    logger.info(f"compare     reading or downloading {name} in {data_dir}")
    with progress_bar(console, "download") as on_progress:
        return preprocess_dataset(
            fetch(name, data_dir, manifest.config, last_attempt=True, on_progress=on_progress), data_dir
        )


def _print(comparison: Comparison) -> None:
    a, b, test = comparison.a, comparison.b, comparison.mcnemar
    say(f"{comparison.dataset}: {comparison.verdict}\n")
    rows = [
        (name, side.run_id, side.created[:16].replace("T", " "), f"{side.accuracy:.4f}", f"{side.loss:.4f}",
         f"{side.steps:,}", f"{side.train_seconds:.2f}")
        for name, side in (("A", a), ("B", b))
    ]  # fmt: skip
    figures = ("accuracy", "loss", "steps", "seconds")
    print_table(("", "run", "started (UTC)", *figures), rows, right=figures)
    for note in comparison.notes:
        say(f"note: {note}")
    if comparison.settings:
        say("\nsettings that differ\n")
        print_table(
            ("setting", "A", "B"),
            [(each.name, setting_text(each.a), setting_text(each.b)) for each in comparison.settings],
        )
    else:
        say("\nthe settings, the code and the data are the same")
    say("\ncheckpoints\n")
    headings = ("step", "accuracy A", "accuracy B", "loss A", "loss B")
    points = [
        (f"{each.step:,}", *map(_share, (each.accuracy_a, each.accuracy_b, each.loss_a, each.loss_b)))
        for each in comparison.checkpoints
    ]
    print_table(headings, points, right=headings)
    say("\nclasses\n")
    headings = ("class", "images", "A", "B", "B - A")
    classes = [
        (comparison.class_names[each.label], f"{each.images:,}", _share(each.a), _share(each.b), _gain(each.a, each.b))
        for each in comparison.classes
    ]
    classes.append(
        ("all", f"{test.test_images:,}", _share(a.accuracy), _share(b.accuracy), _gain(a.accuracy, b.accuracy))
    )
    print_table(headings, classes, right=headings)
    _print_alone("A", comparison.a_alone, comparison.class_names)
    _print_alone("B", comparison.b_alone, comparison.class_names)
    say(f"\nboth read {test.both_right:,} images, neither reads {test.neither_right:,}")


def _print_alone(name: str, images: Sequence[DisputedImage], names: Sequence[str]) -> None:
    say(f"\n{counted(len(images), 'image')} that only {name} reads")
    if images:
        rows: Iterable[tuple[str, ...]] = (
            (f"{each.index:,}", names[each.label], names[each.a], names[each.b]) for each in images[:MAX_LISTED]
        )
        headings = ("test image", "class", "A reads", "B reads")
        say()
        print_table(headings, rows, right=headings)
    if len(images) > MAX_LISTED:
        say(f"{len(images) - MAX_LISTED:,} more: --json lists all, --html shows them")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _gain(a: float | None, b: float | None) -> str:
    return "" if a is None or b is None else f"{b - a:+.4f}"
