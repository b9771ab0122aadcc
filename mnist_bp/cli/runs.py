"""`mnist-bp runs`: list the published runs, one line each, and plot their accuracy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from mnist_bp.cli.flags import DataCommand, PngFile, StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_error
from mnist_bp.cli.tables import print_table
from mnist_bp.data.datasets import DatasetName
from mnist_bp.documents.fields import Timestamp
from mnist_bp.errors import StoreError
from mnist_bp.registry.catalog import CatalogedRun, RunStatus, catalog_runs
from mnist_bp.registry.champion import find_champions
from mnist_bp.report.png_plots import accuracy_png
from mnist_bp.storage.address import absolute_address, open_store
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.interface import Store
from mnist_bp.storage.schema import FrozenModel
from mnist_bp.training.interrupted import InterruptedRun, list_interrupted_runs
from mnist_bp.training.resume import resume_flags


class RunsCommand(StoreCommand, DataCommand, cli_prog_name="mnist-bp runs"):
    """List published and interrupted runs, newest last; * marks a champion. Exit code 1 if a run is damaged."""

    dataset: DatasetName | None = None
    """List only the complete and interrupted runs on this dataset."""

    plot: PngFile = ""
    """Plot the accuracy of the complete runs listed, as a PNG file."""


class RunRow(FrozenModel):
    """One row in a table of runs. Facts that only a manifest states are None without an intact one."""

    run_id: str
    status: RunStatus
    created: Timestamp | None
    dataset: str | None
    engine: str | None
    seed: int | None
    steps: int | None
    accuracy: float | None
    loss: float | None
    train_seconds: float | None
    champion: bool
    files: int
    size: int
    damage: str | None


def main(arguments: Sequence[str]) -> int:
    """List the runs. A damaged run is listed as such and described on stderr.

    Returns:
        0, or 1 if a run, a journal or the champion of a dataset is damaged.
    """
    command = parse(RunsCommand, arguments)
    store = _store_of(command)
    champions, problems = find_champions(store)
    every = catalog_runs(store)
    problems += [run.damage for run in every if run.damage]
    listed = [run for run in every if command.dataset in (None, run.dataset)]
    complete = [run.manifest for run in listed if run.manifest]
    published = {run.listed.run_id for run in every if run.status != "incomplete"}
    found, unreadable = list_interrupted_runs(command.data_dir, absolute_address(command.artifacts), published)
    interrupted = [run for run in found if command.dataset in (None, run.dataset)]
    problems += unreadable
    plot = command.plot if complete else None
    if plot:
        write_bytes(Path(plot), accuracy_png(complete, champions))
    if command.json_output:
        rows = [_row_of(run, champions).model_dump(mode="json") for run in listed]
        unfinished = [asdict(run) for run in interrupted]
        report = {"artifacts": command.artifacts, "runs": rows, "interrupted": unfinished, "plot": plot}
        say(json.dumps({**report, "problems": problems}))
        return 1 if problems else 0
    if listed:
        _print(listed, champions)
    else:
        of = f" of {command.dataset}" if command.dataset else ""
        say(f"no runs{of} in {command.artifacts} yet")
    if interrupted:
        _print_interrupted(interrupted, command.data_dir)
    if plot:
        say(f"plot: {plot}")
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def _store_of(command: RunsCommand) -> Store:
    """Open the store; one for which a run was started may have no published run yet."""
    try:
        return command.store
    except StoreError:
        if not list_interrupted_runs(command.data_dir, absolute_address(command.artifacts), ())[0]:
            raise
        return open_store(command.artifacts)


def _row_of(run: CatalogedRun, champions: Collection[str]) -> RunRow:
    listed, manifest = run.listed, run.manifest
    return RunRow(
        run_id=listed.run_id,
        status=run.status,
        created=manifest and manifest.created,
        dataset=run.dataset,
        engine=manifest and manifest.engine,
        seed=manifest and manifest.seed,
        steps=manifest and manifest.final.step,
        accuracy=manifest and manifest.final.accuracy,
        loss=manifest and manifest.final.loss,
        train_seconds=manifest and manifest.train_seconds,
        champion=listed.run_id in champions,
        files=len(listed.files),
        size=listed.size,
        damage=run.damage,
    )


def _print(runs: Sequence[CatalogedRun], champions: Collection[str]) -> None:
    rows: list[tuple[str, ...]] = []
    for run in runs:
        if (manifest := run.manifest) is None:  # nothing else is known
            rows.append((run.listed.run_id, "", f"({run.status})"))
            continue
        final, mark = manifest.final, "*" if manifest.run_id in champions else ""
        figures = (str(manifest.seed), f"{final.step:,}", f"{final.accuracy:.4f}", f"{manifest.train_seconds:.2f}")
        rows.append((manifest.run_id, mark, manifest.dataset.name, manifest.engine, *figures))
    headings = ("run", "", "dataset", "engine", "seed", "steps", "accuracy", "seconds")
    print_table(headings, rows, right=("seed", "steps", "accuracy", "seconds"))


def _print_interrupted(runs: Sequence[InterruptedRun], data_dir: str) -> None:
    rows = [(run.run_id, run.dataset, run.engine, run.status) for run in runs]
    say("\nnot published:\n")
    print_table(("run", "dataset", "engine", "status"), rows)
    say("\nresume an interrupted run with:")
    say(shlex.join(["mnist-bp", "train", *resume_flags("RUN", data_dir)]))
