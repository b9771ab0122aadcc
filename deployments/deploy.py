"""Deploy `mnist-bp/train` and `mnist-bp/nightly` to a work pool, as `prefect.yaml` defines them.

As a script: `python deployments/deploy.py --help`. It can be repeated: a pool that exists is left as it is, and what an
operator paused stays paused.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

if __name__ == "__main__":
    from mnist_bp.cli.process import FastExit, exit_when_interrupted

    exit_when_interrupted()
    fast_exit = FastExit()  # before other exit handlers

import yaml
from pydantic import Field

from flows.runtime.choose_server import require_server
from flows.runtime.deployment_command import run_deployment_command
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.process import print_line
from mnist_bp.config import data_dir_from_environment
from mnist_bp.errors import ConfigError, MnistBpError, without_secrets

# Prefect is imported late: it reads its settings when it is imported.

DEFINITION: Final = Path(__file__).with_name("prefect.yaml")
KUBERNETES_TEMPLATE: Final = Path(__file__).with_name("kubernetes") / "base-job-template.json"
"""Template of the jobs of a Kubernetes pool: Prefect's own runs an image that lacks this project."""


class DeployError(MnistBpError):
    """Prefect refuses a deployment or a work pool."""


class DeployCommand(Command, cli_prog_name="deploy.py"):
    """Deploy mnist-bp/train and mnist-bp/nightly to a work pool on the Prefect server that $PREFECT_API_URL names."""

    file: str = str(DEFINITION)
    """Definition of the deployments, in the format of prefect.yaml."""

    pool: str = Field(default="mnist-bp", min_length=1)
    """Work pool, which is made if it does not exist; one that exists is left as it is."""

    type: Literal["process", "docker", "kubernetes"] = "process"
    """Type of a work pool that is made."""


def read_definition(path: Path) -> dict[str, Any]:
    """Read the definition of the deployments.

    Raises:
        ConfigError: The file cannot be read, or the nightly has another time zone than its schedule.
    """
    try:
        definition = yaml.safe_load(path.read_text())
        for deployment in definition["deployments"]:
            _check_zones(path, deployment)
        return dict(definition)
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError, AttributeError) as exc:
        raise ConfigError(f"--file {path}: expected deployments as in {DEFINITION}: {type(exc).__name__}") from exc


def _check_zones(path: Path, deployment: dict[str, Any]) -> None:
    """Refuse a deployment whose schedules have another time zone than its parameters."""
    default = (deployment.get("parameters") or {}).get("timezone", "UTC")
    for schedule in deployment.get("schedules") or []:
        zone, night_zone = schedule.get("timezone", "UTC"), (schedule.get("parameters") or {}).get("timezone", default)
        if zone != night_zone:
            raise ConfigError(
                f"--file {path}: the schedule {schedule.get('cron')!r} of {deployment['name']} is in the time zone "
                f"{zone}, and the parameter timezone is {night_zone}: expected the same zone, since the parameter "
                "decides the date of a night"
            )


def with_pauses(definition: dict[str, Any], pool: str) -> dict[str, Any]:
    """Return the definition for a pool, with what is paused on the server."""
    from flows.runtime.crashed_runs import FLOW
    from flows.runtime.pauses import read_pauses

    deployments = []
    for deployment in definition["deployments"]:
        pauses = read_pauses(f"{FLOW}/{deployment['name']}")
        paused = deployment.get("paused", False) or pauses.deployment
        work_pool = {**(deployment.get("work_pool") or {}), "name": pool}
        deployments.append({**deployment, "paused": paused, "work_pool": work_pool})
        if schedules := deployment.get("schedules"):  # without any, those that an operator added stay
            deployments[-1]["schedules"] = [
                {**each, "active": each.get("active", True) and pauses.is_active(str(each.get("slug")))}
                for each in schedules
            ]
    return {**definition, "deployments": deployments}


def make_pool(name: str, kind: str) -> str | None:
    """Make a work pool, unless it exists.

    Args:
        name: Its name.
        kind: Its type, such as process.

    Returns:
        The type of the pool that exists; None if one was made.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

    with get_client(sync_client=True) as client:
        with suppress(ObjectNotFound):
            return client.read_work_pool(name).type
        if kind == "kubernetes":
            template = json.loads(KUBERNETES_TEMPLATE.read_text())
        else:
            template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
        with suppress(ObjectAlreadyExists):  # another process has just made it
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    return None


def deploy(definition: dict[str, Any]) -> None:
    """Call `prefect deploy`.

    Raises:
        DeployError: It failed; states its last line.
    """
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "prefect.yaml")
        file.write_text(yaml.safe_dump(definition))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise DeployError(f"prefect deploy failed: {without_secrets(' '.join(lines[-3:])) or done.returncode}")


def _deploy(command: DeployCommand) -> None:
    from flows.runtime.crashed_runs import FLOW

    definition = read_definition(Path(command.file))
    url = without_secrets(require_server("start one with prefect server start"))
    found = make_pool(command.pool, command.type)
    what = f"made, of type {command.type}" if found is None else f"exists, of type {found}; left as it is"
    print_line(f"pool        {command.pool}: {what}")
    definition = with_pauses(definition, command.pool)
    deploy(definition)
    names = [f"{FLOW}/{deployment['name']}" for deployment in definition["deployments"]]
    if command.json_output:
        print(json.dumps({"api": url, "pool": command.pool, "made": found is None, "deployments": names}))
    for name, deployment in zip(names, definition["deployments"], strict=True):
        schedules = deployment.get("schedules") or []
        paused = [str(each.get("cron", each.get("slug"))) for each in schedules if not each["active"]]
        note = "; paused" if deployment["paused"] else f"; paused: {', '.join(paused)}" if paused else ""
        print_line(f"deployed    {name}{note}")
    print_line(f"on          {url}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy; see `run_deployment_command` for the exit code."""
    command = parse(DeployCommand, arguments)
    return run_deployment_command(lambda: _deploy(command), "deploying", data_dir_from_environment())


if __name__ == "__main__":
    fast_exit.run(main)
