"""`mnist-bp runs`: list the published runs, one line each, and plot their accuracy."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.tables import print_table
from mnist_bp.data.datasets import DatasetName
from mnist_bp.registry.catalog import CatalogedRun, catalog_runs, find_champions, summarize_run
from mnist_bp.report.png_plots import accuracy_png
from mnist_bp.storage.files import check_writable, write_bytes


class RunsCommand(StoreCommand, cli_prog_name="mnist-bp runs"):
    """List the published runs, newest last. An asterisk marks the champion of a dataset."""

    dataset: DatasetName | None = None
    """List only the complete runs on this dataset."""

    plot: str | None = None
    """Plot the accuracy of the complete runs listed, as a PNG file."""


def main(arguments: Sequence[str]) -> int:
    """List the runs. A damaged run is listed as such and described below the table."""
    command = parse(RunsCommand, arguments)
    if command.plot:
        check_writable(Path(command.plot).absolute().parent)
    store = command.store
    champions, problems = find_champions(store)
    every = catalog_runs(store)
    problems += [run.damage for run in every if run.damage]
    listed = [run for run in every if command.dataset in (None, run.dataset)]
    complete = [run.manifest for run in listed if run.manifest]
    plot = command.plot if complete else None
    if plot:
        write_bytes(Path(plot), accuracy_png(complete, champions))
    if command.json_output:
        rows = [summarize_run(run, champions).model_dump(mode="json") for run in listed]
        print(json.dumps({"artifacts": command.artifacts, "runs": rows, "plot": plot, "problems": problems}))
        return 0
    if listed:
        _print(listed, champions)
    else:
        of = f" of {command.dataset}" if command.dataset else ""
        print(f"no runs{of} in {command.artifacts} yet")
    for line in [*problems, *([f"plot: {plot}"] if plot else [])]:
        print(line)
    return 0


def _print(runs: Sequence[CatalogedRun], champions: Collection[str]) -> None:
    rows: list[tuple[str, ...]] = []
    for run in runs:
        if (manifest := run.manifest) is None:  # nothing else is known
            rows.append((run.listed.run_id, f"({run.status})"))
            continue
        final = manifest.final
        accuracy = f"{final.accuracy:.4f}" + (" *" if manifest.run_id in champions else "")
        figures = (str(manifest.seed), f"{final.step:,}", accuracy, f"{manifest.train_seconds:.2f}")
        rows.append((manifest.run_id, manifest.dataset.name, manifest.engine, *figures))
    headings = ("run", "dataset", "engine", "seed", "steps", "accuracy", "seconds")
    print_table(headings, rows, right=("seed", "steps", "seconds"))
