"""Serve the flows: `mnist-bp/train` on demand and `mnist-bp/nightly` on a schedule, from one long-lived process.

As a script: `python deployments/serve.py --help`. Ctrl-C or SIGTERM ends it together with the runs in progress, and
prints how to resume them. The schedule stays as it is, active or paused; if nightly runs were missed in the meantime,
the latest of them runs at the next start.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if __name__ == "__main__":
    from mnist_bp.cli.process import FastExit, exit_when_interrupted

    exit_when_interrupted()
    fast_exit = FastExit()  # before other exit handlers

from pydantic import Field, field_validator

from flows.runtime.choose_server import require_server
from flows.runtime.deployment_command import run_deployment_command
from flows.runtime.home import prefect_home
from flows.runtime.password import (
    CLIENT_VARIABLE,
    FILE,
    SERVER_VARIABLE,
    export_command,
    new_password,
    write_password,
)
from flows.runtime.server import LocalServer
from flows.runtime.watch import SERVED_BY, when_process_dies
from mnist_bp.cli import alive
from mnist_bp.cli.flags import RunCommand, parse
from mnist_bp.cli.process import print_error, print_line
from mnist_bp.data.choice import Dataset
from mnist_bp.data.own.address import EXPECTED, absolute_dataset, is_own
from mnist_bp.errors import ConfigError, without_secrets
from mnist_bp.preflight import check_runner, check_tracking
from mnist_bp.presets import PresetName
from mnist_bp.registry.nightly import ZONE_EXPECTED, zone_of

if TYPE_CHECKING:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import RunnerDeployment

# Prefect is imported late: it reads its settings when it is imported, and a flag may name its server.

_CRON_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
"""A sixth field would be seconds."""

_CRON_EXPECTED: Final = f"expected five fields, each within its range: {', '.join(_CRON_FIELDS)}, as in '0 2 * * *'"


class ServeCommand(RunCommand, cli_prog_name="serve.py"):
    """Serve mnist-bp/train on demand and mnist-bp/nightly on a schedule. All other flags apply to the nightly run."""

    preset: PresetName = "relu-128"
    """Named set of values for the flags of a run, which override it, as of mnist-bp train; the defaults shown for the
    others are those of lab-8-4."""

    dataset: Dataset = "mnist"
    """Dataset of the nightly run, which fails if it cannot be downloaded or read; not auto."""

    cron: str = "0 2 * * *"
    """Schedule of the nightly run: minute, hour, day of the month, month, day of the week."""

    timezone: str = "UTC"
    """Time zone of the schedule, such as Europe/Zurich; also decides the date of a night, which is its seed."""

    with_server: bool = False
    """Start a Prefect server with its UI, which ends with this process; otherwise $PREFECT_API_URL names a server."""

    port: int = Field(default=4200, ge=1, le=65_535)
    """Port of the server of --with-server, on the loopback interface."""

    end_with: int | None = Field(default=None, ge=1)
    """Process id: end when that process ends, however it ends."""

    @classmethod
    def with_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Use relu-128 by default, and no preset's seed: that of a night is its date."""
        filled = super().with_preset({"preset": "relu-128", **values})
        return {name: value for name, value in filled.items() if name != "seed" or name in values}

    @field_validator("dataset")
    @classmethod
    def _is_one_dataset(cls, value: str) -> str:
        if value == "auto":
            raise ValueError(EXPECTED.replace("'auto', ", ""))
        dataset = absolute_dataset(value)  # a run may have another working directory
        kind, _, place = dataset.partition(":")
        directory = Path(place).parent if kind == "idx" else Path(place)  # idx: may name the start of files
        if is_own(dataset) and "://" not in place and not directory.exists():
            raise ValueError(f"{directory} does not exist; check the path")
        return dataset

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, value: str) -> str:
        if (found := len(value.split())) != len(_CRON_FIELDS):
            raise ValueError(f"{_CRON_EXPECTED}; found {found}")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            zone_of(value)
        except ConfigError as exc:
            raise ValueError(ZONE_EXPECTED) from exc
        return value


def create_deployments(command: ServeCommand) -> list[RunnerDeployment]:
    """Create the two deployments, each of one run at a time.

    A second run of `train` is cancelled; nights wait, see `flows.runtime.nights`.

    Raises:
        ConfigError: The schedule is invalid, or a seed is given.
    """
    if "seed" in command.model_fields_set:
        raise ConfigError(f"--seed {command.seed}: expected none, since the seed of a night is its date; see --help")
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.nightly import nightly
    from flows.train import train

    try:
        schedule = CronSchedule(cron=command.cron, timezone=command.timezone)
    except ValueError as exc:
        raise ConfigError(f"--cron {command.cron!r}: {_cron_problem(command.cron)}{_CRON_EXPECTED}") from exc
    _require_a_date(schedule)

    def one_at_a_time(overlap: ConcurrencyLimitStrategy) -> ConcurrencyLimitConfig:
        # a PENDING run whose process has ended holds its slot for one minute
        return ConcurrencyLimitConfig(limit=1, collision_strategy=overlap, grace_period_seconds=60)

    config = command.settings.model_dump(mode="json", exclude={"seed"})
    if command.runner != "local":  # not dumped, since it is no part of a run's record
        config["runner"] = command.runner
    parameters = {"config": config, "timezone": command.timezone}
    by_module = EntrypointType.MODULE_PATH  # a path would depend on the working directory
    return [
        RunnerDeployment.from_flow(
            train,
            "train",
            concurrency_limit=one_at_a_time(ConcurrencyLimitStrategy.CANCEL_NEW),
            entrypoint_type=by_module,
        ),
        RunnerDeployment.from_flow(
            nightly,
            "nightly",
            schedules=[DeploymentScheduleCreate(schedule=schedule, slug="nightly")],
            parameters=parameters,
            concurrency_limit=one_at_a_time(ConcurrencyLimitStrategy.ENQUEUE),
            entrypoint_type=by_module,
        ),
    ]


def _require_a_date(schedule: CronSchedule) -> None:
    """Refuse a schedule such as February 31, which would fail in Prefect's server alone, at each of its rounds."""
    from prefect.server.schemas.schedules import CronSchedule as ServerSchedule

    try:
        asyncio.run(ServerSchedule(cron=schedule.cron, timezone=schedule.timezone).get_dates(1))
    except ValueError as exc:
        raise ConfigError(f"--cron {schedule.cron!r}: no such date exists, so no night would run") from exc


def _cron_problem(cron: str) -> str:
    """Return which field of a schedule is invalid by itself, for a message; nothing if each is valid."""
    from prefect.client.schemas.schedules import CronSchedule

    for position, (name, field) in enumerate(zip(_CRON_FIELDS, cron.split(), strict=True)):
        alone = [field if index == position else "*" for index in range(len(_CRON_FIELDS))]
        try:
            CronSchedule(cron=" ".join(alone))
        except ValueError:
            return f"its {name}, {field!r}, is invalid; "
    return ""


def export_settings(command: ServeCommand) -> ServeCommand:
    """Set the environment variables that runs inherit: places, independent of the working directory, and the server.

    Raises:
        ConfigError: A port is given without a server.
    """
    if "port" in command.model_fields_set and not command.with_server:
        raise ConfigError(f"--port {command.port} is the port of the server of --with-server: give both or neither")
    places = {"data_dir": str(Path(command.data_dir).absolute()), "artifacts": command.settings.record["artifacts"]}
    os.environ["MNIST_BP_DATA_DIR"], os.environ["MNIST_BP_ARTIFACTS"] = places["data_dir"], places["artifacts"]
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if command.track is not None:
        os.environ["MNIST_BP_TRACK"] = command.track
    if command.with_server:
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{command.port}/api"
        os.environ[CLIENT_VARIABLE] = os.environ.get(SERVER_VARIABLE) or new_password()
        os.environ[SERVED_BY] = str(os.getpid())  # runs exit with this process
    return command.model_copy(update=places)


def _serve(command: ServeCommand) -> None:
    command = export_settings(command)
    if command.end_with is not None:
        when_process_dies(command.end_with, lambda: os.kill(os.getpid(), signal.SIGTERM))
    from flows.runtime.notifications import check_webhook

    deployments = create_deployments(command)
    check_webhook()
    check_tracking(command.settings)
    check_runner(command.settings)
    server = None
    if command.with_server:
        server = LocalServer(command.port, with_ui=True, password=os.environ[CLIENT_VARIABLE])
        print_line(f"starting    Prefect's server on port {command.port}")
    with server or nullcontext():
        if server is not None:
            server.when_it_dies(_exit_without_server)
            if not os.environ.get(SERVER_VARIABLE):
                write_password(server.password)  # not before the port is ours: another server may use the file
        _serve_on_server(command, deployments)


def _serve_on_server(command: ServeCommand, deployments: list[RunnerDeployment]) -> None:
    from flows.runtime.serving import crash_killed_runs, run_until_interrupted

    url = require_server("start one with --with-server")
    crash_killed_runs()
    alive.stop()
    run_until_interrupted(deployments, lambda: _print_addresses(command, without_secrets(url)))


def _print_addresses(command: ServeCommand, api: str) -> None:
    from flows.runtime.crashed_runs import FLOW

    about = {"api": api, "ui": api.removesuffix("/api"), "cron": command.cron, "timezone": command.timezone}
    if command.json_output:
        print(json.dumps(about), flush=True)
    print_line(f"serving     {FLOW}/train, and {FLOW}/nightly at {command.cron!r} in {command.timezone}")
    print_line(f"see         {about['ui']}")
    if command.with_server:
        print_line(f"password    {_password_hint()}")


def _password_hint() -> str:
    """Return how the UI and the command `prefect` get the password, without the password."""
    given = os.environ.get(SERVER_VARIABLE)
    source = f"that of {SERVER_VARIABLE}" if given else f"for the UI in {prefect_home() / FILE}"
    return f"{source}; for the command prefect: {export_command()}"


def _exit_without_server() -> None:
    """Exit at once: Prefect's runner would try for minutes to reach a server that has ended."""
    print_error("Prefect's server has ended unexpectedly, and its runs with it: serve again, and resume with --resume")
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted: exit code 0 once this process serves. Otherwise see `run_deployment_command`."""
    command = parse(ServeCommand, arguments)
    return run_deployment_command(lambda: _serve(command), "starting", command.data_dir)


if __name__ == "__main__":
    fast_exit.run(main)
