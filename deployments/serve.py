"""Serve the flows: `mnist-bp/train` on demand and `mnist-bp/nightly` by a schedule, from one long-lived process.

As a script: `python deployments/serve.py --help`. Ctrl-C or a plain kill ends it, with the runs under way. The schedule
stays active meanwhile; when it is started again, the last night that was missed is made up for.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if __name__ == "__main__":
    from mnist_bp.cli.process import leave_when_interrupted

    leave_when_interrupted()

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from flows.runtime.api import ask_health
from flows.runtime.lifeline import SERVED_BY, end_with
from flows.runtime.server import LocalServer, ServerError
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.process import print_error
from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DatasetName
from mnist_bp.errors import ConfigError, MnistBpError
from mnist_bp.registry.nights import ZONE_EXPECTED, zone_of

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

# Prefect is imported late: it reads its settings when it is, and where the server is may be one of the flags.

_CRON_FIELDS: Final = 5
"""Minute, hour, day of the month, month, day of the week; a sixth would be seconds."""

_CRON_EXPECTED: Final = (
    "expected five fields, each within its range: minute, hour, day of the month, month, day of the week, as in "
    "'0 2 * * *'"
)


class ServeCommand(RunConfig, Command):
    """Serve mnist-bp/train on demand and mnist-bp/nightly by a schedule, which trains with the flags given here."""

    model_config = SettingsConfigDict(**{**Command.model_config, "cli_prog_name": "serve.py"})

    dataset: DatasetName = "mnist"
    """Images that the nightly trains on; if they cannot be had, it fails."""

    cron: str = "0 2 * * *"
    """When the nightly runs: minute, hour, day of the month, month, day of the week."""

    timezone: str = "UTC"
    """Where the schedule's clock hangs, such as Europe/Zurich; also decides the date of a night, which is its seed."""

    with_server: bool = False
    """Start a Prefect server with its UI, that ends with this process; else $PREFECT_API_URL says where one is."""

    port: int = Field(default=4200, ge=1, le=65_535)
    """Where the server of --with-server listens, on this machine alone."""

    end_with: int | None = Field(default=None, ge=1)
    """Id of a process: end when that one does, however it ends."""

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, value: str) -> str:
        if len(value.split()) != _CRON_FIELDS:
            raise ValueError(_CRON_EXPECTED)
        return value

    @field_validator("timezone")
    @classmethod
    def _names_a_zone(cls, value: str) -> str:
        try:
            zone_of(value)
        except ConfigError as exc:
            raise ValueError(ZONE_EXPECTED) from exc
        return value

    @property
    def config(self) -> RunConfig:
        """The nightly's configuration, without what concerns serving alone."""
        own = {"json_output", "cron", "timezone", "with_server", "port", "end_with"}
        return RunConfig.model_validate(self.model_dump(exclude=own))


def deployments_of(command: ServeCommand) -> list[RunnerDeployment]:
    """Describe the two deployments; of each, a run that would overlap another is cancelled.

    Raises:
        ConfigError: The schedule means nothing, or a seed is chosen.
    """
    if "seed" in command.model_fields_set:
        raise ConfigError(f"--seed {command.seed}: expected none, since the seed of a night is its date; see --help")
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.nightly import nightly
    from flows.train import train

    try:
        schedule = CronSchedule(cron=command.cron, timezone=command.timezone)
    except ValueError as exc:
        raise ConfigError(f"--cron {command.cron!r}: {_CRON_EXPECTED}") from exc
    common: dict[str, Any] = {
        # PENDING runs of a process that is gone hold their place for a minute, no longer
        "concurrency_limit": ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW, grace_period_seconds=60
        ),
        "entrypoint_type": EntrypointType.MODULE_PATH,  # a path would hold from one working directory alone
        "paused": False,
    }
    parameters = {"config": command.config.model_dump(mode="json", exclude={"seed"}), "timezone": command.timezone}
    return [
        RunnerDeployment.from_flow(train, "train", **common),
        RunnerDeployment.from_flow(nightly, "nightly", schedules=[schedule], parameters=parameters, **common),
    ]


def settle(command: ServeCommand) -> ServeCommand:
    """Make this process's environment, which runs inherit, say where everything is, from any working directory.

    Where the server is this process's, also with which process they are to end.
    """
    places = {"data_dir": str(Path(command.data_dir).absolute()), "artifacts": command.config.record["artifacts"]}
    os.environ["MNIST_BP_DATA_DIR"], os.environ["MNIST_BP_ARTIFACTS"] = places["data_dir"], places["artifacts"]
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if command.with_server:
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{command.port}/api"
        os.environ[SERVED_BY] = str(os.getpid())
    return command.model_copy(update=places)


def _serve(command: ServeCommand, deployments: list[RunnerDeployment]) -> None:
    from prefect import serve
    from prefect.settings import PREFECT_API_URL

    from deployments.late import cancel_superseded
    from flows.runtime.crashed_runs import FLOW, crash_zombie_runs
    from flows.runtime.notifications import notify_crashed

    url = PREFECT_API_URL.value()
    if problem := ask_health():
        raise ServerError(
            f"the Prefect server at {url} does not answer as one ({type(problem).__name__}): start it, or have one "
            "started by --with-server"
        )
    for dead in crash_zombie_runs():  # each would keep its deployment's one place
        _say(f"the flow run {dead.name} was killed, and is marked as crashed")
        notify_crashed(dead)
    for late in cancel_superseded(FLOW, "nightly"):
        _say(f"the night due {late.expected_start_time} is superseded, and cancelled")
    about = {"api": url, "ui": str(url).removesuffix("/api"), "cron": command.cron, "timezone": command.timezone}
    if command.json_output:
        print(json.dumps(about), flush=True)
    _say(f"serving     {FLOW}/train, and {FLOW}/nightly at {command.cron!r} in {command.timezone}")
    _say(f"see         {about['ui']}")
    for each in (signal.SIGINT, signal.SIGTERM):  # until Prefect's runner listens for them
        signal.signal(each, signal.default_int_handler)
    # paused schedules would stay so when served again by a process that was told nothing of it
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False)


def _end_without_server() -> None:
    """End at once: Prefect's runner would try for minutes to speak to a server that is gone."""
    print_error("Prefect's server has ended unexpectedly, and its runs with it: serve again, and continue by --resume")
    os._exit(1)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end.

    Returns:
        The exit code: 0, or 1 (failed); 2 (bad usage) is raised as SystemExit, and a process that is interrupted before
        it serves ends with 130.
    """
    command = settle(parse(ServeCommand, arguments))
    try:
        if command.end_with is not None:
            end_with(command.end_with, lambda: os.kill(os.getpid(), signal.SIGTERM))
        from prefect.settings import PREFECT_API_URL

        from flows.runtime.notifications import check_webhook

        deployments = deployments_of(command)
        check_webhook()
        if PREFECT_API_URL.value() is None:
            raise ServerError("there is no Prefect server to serve: set PREFECT_API_URL, or start one by --with-server")
        with LocalServer(command.port, with_ui=True) if command.with_server else nullcontext() as server:
            if server is not None:
                server.when_it_dies(_end_without_server)
            _serve(command, deployments)
    except ConfigError as exc:
        print_error(str(exc))
        raise SystemExit(2) from exc
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
