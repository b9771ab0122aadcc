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
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    from mnist_bp.cli.process import FastExit, exit_when_interrupted

    exit_when_interrupted()
    fast_exit = FastExit()  # before other exit handlers

import yaml  # type: ignore[import-untyped]

from flows.runtime.choose_server import require_server
from flows.runtime.command import run_command
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

    pool: str = "mnist-bp"
    """Work pool, which is made if it does not exist; one that exists is left as it is."""

    type: str = "process"
    """Type of a work pool that is made: process, docker or kubernetes."""


def read_definition(path: Path) -> dict[str, Any]:
    """Read the definition of the deployments.

    Raises:
        ConfigError: The file cannot be read, or the nightly has another time zone than its schedule.
    """
    try:
        definition = yaml.safe_load(path.read_text())
        deployments = {each["name"]: each for each in definition["deployments"]}
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as exc:
        raise ConfigError(f"--file {path}: expected deployments as in {DEFINITION}: {type(exc).__name__}") from exc
    for deployment in deployments.values():
        zone = (deployment.get("parameters") or {}).get("timezone", "UTC")
        for schedule in deployment.get("schedules") or []:
            if (schedule.get("parameters") or {}).get("timezone", zone) != schedule.get("timezone", "UTC"):
                raise ConfigError(
                    f"--file {path}: the schedule {schedule.get('cron')!r} of {deployment['name']} is in the time zone "
                    f"{schedule.get('timezone', 'UTC')}, and the parameter timezone is {zone}: expected the same zone, "
                    "since the parameter decides the date of a night"
                )
    return dict(definition)


def with_pauses(definition: dict[str, Any], pool: str) -> dict[str, Any]:
    """Return the definition for a pool, with what is paused on the server."""
    from flows.runtime.crashed_runs import FLOW
    from flows.runtime.pauses import read_pauses

    deployments = []
    for deployment in definition["deployments"]:
        pauses = read_pauses(f"{FLOW}/{deployment['name']}")
        schedules = [
            {**schedule, "active": schedule.get("active", True) and pauses.is_active(str(schedule.get("slug")))}
            for schedule in deployment.get("schedules") or []
        ]
        paused = deployment.get("paused", False) or pauses.deployment
        work_pool = {**(deployment.get("work_pool") or {}), "name": pool}
        deployments.append({**deployment, "paused": paused, "schedules": schedules, "work_pool": work_pool})
    return {**definition, "deployments": deployments}


def make_pool(name: str, kind: str) -> bool:
    """Make a work pool, unless it exists.

    Args:
        name: Its name.
        kind: Its type, such as process.

    Returns:
        Whether it was made.

    Raises:
        ConfigError: Prefect knows no such type.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            if kind == "kubernetes":
                template = json.loads(KUBERNETES_TEMPLATE.read_text())
            else:
                template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
            if template is None:
                raise ConfigError(f"--type {kind}: expected process, docker or kubernetes") from None
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
            return True
    return False


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
    definition = read_definition(Path(command.file))
    url = require_server("start one with prefect server start")
    made = make_pool(command.pool, command.type)
    print_line(f"pool        {command.pool}: {f'made, of type {command.type}' if made else 'exists, left as it is'}")
    definition = with_pauses(definition, command.pool)
    deploy(definition)
    for deployment in definition["deployments"]:
        paused = [str(each.get("cron", each.get("slug"))) for each in deployment["schedules"] if not each["active"]]
        note = f"; stays paused: {', '.join(paused)}" if paused else ""
        print_line(f"deployed    mnist-bp/{deployment['name']}{'; stays paused' if deployment['paused'] else note}")
    print_line(f"on          {without_secrets(url)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy; see `run_command` for the exit code."""
    command = parse(DeployCommand, arguments)
    return run_command(lambda: _deploy(command), "deploying", data_dir_from_environment())


if __name__ == "__main__":
    fast_exit.run(main)
