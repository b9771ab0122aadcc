"""`mnist-bp runs`: list the published runs, one line each, and plot their accuracy."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from mnist_bp.cli.file_names import PngFile
from mnist_bp.cli.flags import AnyRunCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.process import print_error
from mnist_bp.cli.run_list import RunList, RunRow, find_runs, row_of
from mnist_bp.cli.tables import print_table
from mnist_bp.data.choice import KeptName
from mnist_bp.report.png_plots import accuracy_png
from mnist_bp.storage.files import write_bytes
from mnist_bp.training.interrupted import InterruptedRun
from mnist_bp.training.resume import resume_flags

_FIRST_YEAR: Final = 1970


def _parse_time(value: object) -> object:
    """Read a date or a time of ISO 8601; without a zone, in UTC."""
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value.strip())
        if time.year < _FIRST_YEAR:
            raise ValueError
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected a date or a time, such as 2026-11-23 or 2026-11-23T18:15") from None


Since = Annotated[datetime, BeforeValidator(_parse_time)]
"""A time in UTC."""


class RunsCommand(AnyRunCommand, cli_prog_name="mnist-bp runs"):
    """List the runs of a store, newest last, published and interrupted; * marks a champion.

    The exit code is 1 if a run is damaged.
    """

    dataset: KeptName | None = None
    """List only the complete and interrupted runs on this dataset."""

    since: Since | None = None
    """List only the runs that were started at or after this time: 2026-11-23, or 2026-11-23T18:15 in UTC."""

    top: int | None = Field(default=None, ge=1)
    """List only so many complete runs of each dataset: those with the highest accuracy, best first."""

    csv_output: bool = Field(default=False, alias="csv")
    """Print the published runs as CSV, one line each after a line of names, and everything else on stderr."""

    plot: PngFile = ""
    """Plot the accuracy of the complete runs listed, as a PNG file."""

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.json_output and self.csv_output:
            raise ValueError("expected --json or --csv, not both")
        return self


def main(arguments: Sequence[str]) -> int:
    """List the runs. A damaged run is listed as such and described on stderr.

    Returns:
        0, or 1 if a run, a journal or the champion of a dataset is damaged.
    """
    command = parse(RunsCommand, arguments)
    found = find_runs(command.store, command.artifacts, command.data_dir, command.dataset, command.since, command.top)
    complete = [run.manifest for run in found.listed if run.manifest]
    plot = command.plot if complete else None
    if plot:
        write_bytes(Path(plot), accuracy_png(complete, found.champions))
    if command.json_output:
        rows = [row_of(run, found).model_dump(mode="json") for run in found.listed]
        unfinished = [asdict(run) for run in found.interrupted]
        report = {"artifacts": command.artifacts, "runs": rows, "interrupted": unfinished, "plot": plot}
        say(json.dumps({**report, "problems": found.problems}))
        return 1 if found.problems else 0
    if command.csv_output:
        _print_csv(found)
    else:
        _print(found, command)
        if plot:
            say(f"plot: {plot}")
    for problem in found.problems:
        print_error(problem)
    return 1 if found.problems else 0


def _print_csv(found: RunList) -> None:
    """Print the rows of `--json` as CSV; several aliases of a run are separated by spaces."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(RunRow.model_fields), lineterminator="\n")
    table.writeheader()
    for run in found.listed:
        row = row_of(run, found).model_dump(mode="json")
        table.writerow({**row, "aliases": " ".join(row["aliases"])})
    say(text.getvalue(), end="")


def _print(found: RunList, command: RunsCommand) -> None:
    if found.listed:
        _print_published(found)
    else:
        of = f" of {command.dataset}" if command.dataset else ""
        since = f" since {command.since.isoformat()}" if command.since else ""
        say(f"no runs{of}{since} in {command.artifacts}{'' if since else ' yet'}")
    if found.interrupted:
        _print_interrupted(found.interrupted, command.data_dir)


def _print_published(found: RunList) -> None:
    rows: list[tuple[str, ...]] = []
    several = any(run.manifest is not None and run.manifest.models > 1 for run in found.listed)
    for run in found.listed:
        if (manifest := run.manifest) is None:  # nothing else is known
            rows.append((run.listed.run_id, "", f"({run.status})"))
            continue
        final, mark = manifest.final, "*" if manifest.run_id in found.champions else ""
        figures = (str(manifest.seed), f"{final.step:,}", f"{final.accuracy:.4f}", f"{manifest.train_seconds:.2f}")
        models = (f"{manifest.models:,}",) if several else ()
        names = " ".join(found.aliases.get(manifest.run_id, ()))
        rows.append((manifest.run_id, mark, manifest.dataset.name, manifest.engine, *models, *figures, names))
    headings = (
        "run",
        "",
        "dataset",
        "engine",
        *(("models",) if several else ()),
        "seed",
        "steps",
        "accuracy",
        "seconds",
    )
    aliases = ("alias",) if any(run.listed.run_id in found.aliases for run in found.listed) else ()
    print_table((*headings, *aliases), rows, right=("models", "seed", "steps", "accuracy", "seconds"))


def _print_interrupted(runs: Sequence[InterruptedRun], data_dir: str) -> None:
    rows = [(run.run_id, run.dataset, run.engine, run.status) for run in runs]
    say("\nnot published:\n")
    print_table(("run", "dataset", "engine", "status"), rows)
    say("\nresume an interrupted run with:")
    say(shlex.join(["mnist-bp", "train", *resume_flags("RUN", data_dir)]))
