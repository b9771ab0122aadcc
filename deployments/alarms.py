"""Set the alarms of a Prefect server: see `flows.runtime.alarm_definitions`. Can be repeated.

As a script: `python deployments/alarms.py --help`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

if __name__ == "__main__":
    from mnist_bp.cli.process import FastExit, exit_when_interrupted

    exit_when_interrupted()
    fast_exit = FastExit()  # before other exit handlers

from flows.runtime.choose_server import require_server
from flows.runtime.deployment_command import run_deployment_command
from mnist_bp.cli.flags import Command, parse
from mnist_bp.cli.process import print_line
from mnist_bp.errors import ConfigError, without_secrets
from mnist_bp.storage.places import data_dir_from_environment

# Prefect is imported late: it reads its settings when it is imported.


class AlarmsCommand(Command, cli_prog_name="alarms.py"):
    """Create or update the alarms of the Prefect server at $PREFECT_API_URL.

    They post to $MNIST_BP_WEBHOOK_URL, which is a secret.
    """

    without_webhook: bool = False
    """Set only the alarm that posts nothing: it marks runs as crashed whose machine is lost."""


def _webhook_url() -> str:
    """Return the address that the alarms post to.

    Raises:
        ConfigError: It is not set, or invalid; the message does not repeat it.
    """
    from flows.runtime.notifications import WEBHOOK_VARIABLE, check_webhook

    check_webhook()
    if not (url := os.environ.get(WEBHOOK_VARIABLE)):
        example = "such as https://hooks.slack.com/services/..."
        hint = f"set it to the address that takes the alarms, {example}, or give --without-webhook"
        raise ConfigError(f"{WEBHOOK_VARIABLE} is not set: {hint}")
    return url


def _set_alarms(command: AlarmsCommand) -> None:
    from flows.runtime.alarms import set_alarms

    webhook = None if command.without_webhook else _webhook_url()
    server = require_server("start one with make serve")
    done = set_alarms(webhook)
    host = urlsplit(webhook).hostname if webhook else None  # the rest is secret
    if command.json_output:
        print(json.dumps({"api": without_secrets(server), "webhook": host, "alarms": done}))
    print_line(f"server      {without_secrets(server)}")
    print_line(f"webhook     {host or 'none'}")
    for name, what in done.items():
        print_line(f"{what:<12}{name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Set the alarms; see `run_deployment_command` for the exit code."""
    command = parse(AlarmsCommand, arguments)
    return run_deployment_command(lambda: _set_alarms(command), "connecting", data_dir_from_environment())


if __name__ == "__main__":
    fast_exit.run(main)
