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
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

if __name__ == "__main__":
    from mnist_bp.cli.process import FastExit, exit_when_interrupted

    exit_when_interrupted("what is deployed already stays; run it again")
    fast_exit = FastExit()  # before other exit handlers

import yaml

from deployments.definition import DEFINITION, Name, read_definition
from flows.runtime.choose_server import require_server
from flows.runtime.deployment_command import run_deployment_command
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.process import print_line
from mnist_bp.errors import ConfigError, MnistBpError, without_secrets
from mnist_bp.storage.places import data_dir_from_environment

# Prefect is imported late: it reads its settings when it is imported.

POOL: Final = "mnist-bp"
MAX_PROBLEM: Final = 500
"""Characters of what `prefect deploy` prints last if it fails."""

KUBERNETES_TEMPLATE: Final = Path(__file__).with_name("kubernetes") / "base-job-template.json"
"""Template of the jobs of a Kubernetes pool: Prefect's own runs an image that lacks this project."""


class DeployError(MnistBpError):
    """Prefect refuses a deployment or a work pool."""


class DeployCommand(Command, cli_prog_name="deploy.py"):
    """Deploy mnist-bp/train and mnist-bp/nightly to a work pool on the Prefect server that $PREFECT_API_URL names."""

    file: str = str(DEFINITION)
    """Definition of the deployments, in the format of prefect.yaml."""

    pool: Name | None = None
    """Work pool for all deployments; otherwise the one that the file names for each, or mnist-bp."""

    type: Literal["process", "docker", "kubernetes"] | None = None
    """Type of the work pool, which is made if it does not exist, by default as a process pool; one that exists is left
    as it is."""


def with_pools(definition: dict[str, Any], pool: str | None) -> dict[str, Any]:
    """Return the definition with the name of a pool in each deployment.

    Args:
        definition: From `read_definition`.
        pool: Name of the pool for all; None for the one that each deployment names, or `POOL`.
    """
    deployments = []
    for deployment in definition["deployments"]:
        work_pool = deployment.get("work_pool") or {}
        name = pool or work_pool.get("name") or POOL
        deployments.append({**deployment, "work_pool": {**work_pool, "name": name}})
    return {**definition, "deployments": deployments}


def with_pauses(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition with what is paused on the server."""
    from flows.runtime.crashed_runs import FLOW
    from flows.runtime.pauses import read_pauses

    deployments = []
    for deployment in definition["deployments"]:
        pauses = read_pauses(f"{FLOW}/{deployment['name']}")
        paused = deployment.get("paused", False) or pauses.deployment
        deployments.append({**deployment, "paused": paused})
        if schedules := deployment.get("schedules"):  # without any, those that an operator added stay
            deployments[-1]["schedules"] = [
                {**each, "active": each.get("active", True) and pauses.is_active(each["slug"])} for each in schedules
            ]
    return {**definition, "deployments": deployments}


def make_pool(name: str, kind: str | None) -> str | None:
    """Make a work pool, unless it exists.

    Args:
        name: Its name.
        kind: Its type, such as process; None for any that exists, or process.

    Returns:
        The type of the pool that exists; None if one was made.

    Raises:
        ConfigError: It exists with another type.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

    with get_client(sync_client=True) as client:
        with suppress(ObjectNotFound):
            found = client.read_work_pool(name).type
            if kind not in (None, found):
                raise ConfigError(f"--type {kind}: the pool {name} exists, of type {found}; name another by --pool")
            return found
        kind = kind or "process"
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
        problem = textwrap.shorten(without_secrets(" ".join(lines[-3:])), MAX_PROBLEM)
        raise DeployError(f"prefect deploy failed: {problem or done.returncode}")


def _deploy(command: DeployCommand) -> None:
    from flows.runtime.crashed_runs import FLOW

    definition = with_pools(read_definition(Path(command.file)), command.pool)
    url = without_secrets(require_server("start one with prefect server start"))
    pools = list(dict.fromkeys(deployment["work_pool"]["name"] for deployment in definition["deployments"]))
    made = []
    for pool in pools:
        found = make_pool(pool, command.type)
        made += [pool] if found is None else []
        what = f"exists, of type {found}; left as it is" if found else f"made, of type {command.type or 'process'}"
        print_line(f"pool        {pool}: {what}")
    definition = with_pauses(definition)
    deploy(definition)
    names = [f"{FLOW}/{deployment['name']}" for deployment in definition["deployments"]]
    if command.json_output:
        print(json.dumps({"api": url, "pools": pools, "made": made, "deployments": names}))
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
