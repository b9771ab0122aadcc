"""`mnist-bp track RUN`: log a published run to an MLflow server, for example one that was down when the run ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag

from mnist_bp.cli.flags import StoreCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.errors import ConfigError
from mnist_bp.registry.catalog import list_runs
from mnist_bp.registry.names import resolve_run
from mnist_bp.registry.tracking import log_run, tracking_server
from mnist_bp.storage.places import TrackAddress


class TrackCommand(StoreCommand, cli_prog_name="mnist-bp track"):
    """Log published runs to an MLflow server, and put the alias champion on the champion; nothing is logged twice."""

    run: CliPositionalArg[str | None] = None
    """The run: its id, at least 6 characters of its start, latest, champion, or an alias."""

    all_runs: CliToggleFlag[bool] = Field(default=False, alias="all")
    """Log all runs."""

    track: TrackAddress | None = None
    """The server, mlflow:http://HOST:PORT; default: $MNIST_BP_TRACK."""

    @model_validator(mode="after")
    def _one_or_all(self) -> Self:
        if (self.run is None) != self.all_runs:
            raise ValueError("expected a run or --all")
        return self


def main(arguments: Sequence[str]) -> int:
    """Log runs, and print what the server has."""
    command = parse(TrackCommand, arguments)
    server = tracking_server(command.track)
    if server is None:
        raise ConfigError("--track: required if $MNIST_BP_TRACK is not set; expected mlflow:http://HOST:PORT")
    store = command.store
    run_ids = (
        [resolve_run(store, command.run)] if command.run else [run.run_id for run in list_runs(store) if run.complete]
    )
    logged = []
    for run_id in run_ids:
        logged.append(log_run(server, store, run_id))
        if not command.json_output:
            say(f"{run_id}  {logged[-1].outcome}: {logged[-1].url}")
    if command.json_output:
        say(json.dumps([asdict(each) for each in logged]))
    return 0
