"""The training pipeline: download, preprocess, train, evaluate, upload, promote.

As a script: `python flows/train.py --help`.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Sequence

# Prefect reads its settings when it is imported. A script has a terminal display of its own, so Prefect's console log
# (not the log in its UI) is kept to what is fatal. Its telemetry would call out, print a notice before the first line,
# and fail with a traceback where its SQLite database is busy.
if __name__ == "__main__":
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")

    from mnist_bp.cli import LastExit

    last_exit = LastExit()

import httpx
from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from rich.console import Console

from mnist_bp.cli import INTERRUPTED, end_when_interrupted, parse_train, print_error
from mnist_bp.config import RunConfig
from mnist_bp.errors import MnistBpError
from mnist_bp.preflight import preflight
from mnist_bp.summary import Summary, markdown, print_summary, summarize
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.reporting import show, show_markdown, show_on
from tasks.train import train_network
from tasks.upload import upload

# ---------------------------------------------------------------------------------------------------------------------
# the flow


@flow(name="mnist-bp", flow_run_name="{config.dataset}-{config.engine}-{config.seeds_label}")
def train(config: RunConfig = RunConfig()) -> Summary:  # noqa: B008 - frozen; the default becomes the UI's form
    """Retrain the network from download to publication, and make it champion of its dataset if it is better.

    Args:
        config: What to train on, for how long, and where to publish it.
    """
    preflight(config)
    raw = download(config)
    data = preprocess(config, raw)
    trained = train_network(config, data)
    evaluation = evaluate(data, trained)
    published = upload(config, raw, data, trained, evaluation)
    promotion = promote(config, data, published)
    summary = summarize(raw, data, trained, evaluation, published, promotion)
    show_markdown("run-summary", markdown(summary))
    return summary


# ---------------------------------------------------------------------------------------------------------------------
# the script


def _import_ahead() -> None:
    """Import what the tasks will need, while the main thread waits for Prefect's server to come up."""
    for module in (
        "mnist_bp.runs",
        "mnist_bp.evaluation",
        "mnist_bp.publish",
        "mnist_bp.promotion",
        "matplotlib.figure",
    ):
        importlib.import_module(module)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow in this process and print what came of it.

    Returns:
        The exit code: 0, 1 (failed) or 130 (interrupted); 2 (bad usage) is raised as SystemExit.
    """
    command = parse_train(arguments)
    # Ctrl-C reaches Prefect's own server too, and Prefect would go on for a minute to tell a dead server of it
    end_when_interrupted(f"caches are kept for the next run, checkpoints so far in {command.data_dir}/runs")
    show_on(Console(stderr=True))
    threading.Thread(target=_import_ahead, daemon=True).start()
    show("starting    the Prefect flow mnist-bp")
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # its thread sleeps out 1 s at the end
            summary = train(command.config)
    except MnistBpError as exc:
        print_error(str(exc))
        return 1
    except (RuntimeError, httpx.TransportError) as exc:
        if "Failed to reach API" not in str(exc) and not isinstance(exc, httpx.TransportError):
            raise
        print_error(f"cannot reach the Prefect server at {PREFECT_API_URL.value()}: start it, or unset PREFECT_API_URL")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if command.json_output:
        print(json.dumps(summary))
    else:
        print_summary(Console(), summary)
    return 0


if __name__ == "__main__":
    last_exit.run(main)
