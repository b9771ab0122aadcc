"""What Prefect calls as a flow run changes its state, and how a flow run is named and ends.

Prefect passes the arguments of a hook by name: flow, flow_run and state.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import date
from typing import Any, Final, cast

from prefect import Flow, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.states import Completed
from pydantic import ValidationError

from flows.runtime.crashed_runs import crash_zombie_runs, label_with_process, run_labels
from flows.runtime.notifications import notify_crashed, notify_failed, notify_not_promoted
from flows.runtime.watch import SERVED_BY, when_process_dies
from mnist_bp.cli.process import INTERRUPTED
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.layout import run_directory
from mnist_bp.model.seeds import seeds_range
from mnist_bp.pipeline import write_metrics
from mnist_bp.storage.address import open_store
from mnist_bp.summary import FinishedRun, RunSummary, headline, markdown
from mnist_bp.training.resume import RunRequest
from tasks import ui

logger = logging.getLogger(__name__)


_result: RunSummary | FinishedRun | None = None
"""Result of this process's flow run.

If the reply to its final state is lost, Prefect proposes the state again, and has only the server's, without a result.
"""


def last_result() -> RunSummary | FinishedRun | None:
    """Return the result of this process's last flow run; None if it has not reached its end."""
    return _result


def completed(result: RunSummary | FinishedRun) -> RunSummary | FinishedRun:
    """Return a flow's result as a state with a message, which lists of runs show, and keep it for `last_result`.

    Returns:
        A Completed state, typed as what the flow's caller gets: Prefect unpacks it.
    """
    global _result
    _result = result
    message = result.finished if isinstance(result, FinishedRun) else headline(result)
    return cast("RunSummary | FinishedRun", Completed(message=message, data=result))


def name_flow_run(run: RunRequest, dataset: str, night: date | None = None) -> None:
    """Name and tag the current flow run by dataset, engine and seeds, as `auto` turned out, and label where it trains.

    Args:
        run: The run.
        dataset: Name of the dataset.
        night: Date of a nightly run, or None.
    """
    tags = _tags(run, dataset) | ({"night": str(night)} if night else {})
    directory = run_directory(run.config.data_dir, run.run_id)
    context = FlowRunContext.get()
    deployed = context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None
    labels = run_labels(directory, on_deployment=deployed)
    ui.update_flow_run(f"{dataset}-{tags['engine']}-{night or run.config.seeds_label}", tags, labels)


def _tags(run: RunRequest, dataset: str) -> dict[str, str]:
    try:
        engine = run.engine
    except ConfigError:  # the run fails for the same reason
        engine = run.config.engine
    return {"dataset": dataset, "engine": engine, "seed": seeds_range(run.config.seed_list)}


def prepare_flow_run(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - names of Prefect
    """Send logs to Prefect, exit with the serving process, and mark runs whose process was killed as Crashed."""
    global _result
    _result = None  # not that of an earlier run
    ui.send_logs_to_prefect()
    if pid := os.environ.get(SERVED_BY):
        when_process_dies(int(pid), lambda: os._exit(INTERRUPTED))  # the run can be resumed, as after any kill
    with ui.optional():
        label_with_process(flow_run)
        for zombie in crash_zombie_runs():
            logger.warning(zombie.line, extra={"flow_run_id": flow_run.id})
            notify_crashed(zombie)


def show_summary(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - names of Prefect
    """Show the summary in the UI, and notify of a run that does not become champion."""
    if (summary := last_result()) is None:  # superseded by a later night
        return
    if isinstance(summary, FinishedRun):
        ui.show_markdown("run-summary", f"# {summary.finished}", summary.finished)
        return
    write_metrics(summary)
    if summary.promotion.outcome != "promoted":
        notify_not_promoted(flow_run, summary)
    ui.show_markdown("run-summary", markdown(summary), headline(summary))
    _show_nights(summary)


def _show_nights(summary: RunSummary) -> None:
    """Show the last nights of the dataset, which may include this run."""
    from mnist_bp.registry.nightly import recent_nights  # NumPy
    from mnist_bp.report.nights import nights_headline, nights_markdown

    address, dataset = summary.artifacts.rpartition("/runs/")[0], summary.dataset
    with ui.optional(StoreError):
        if rows := recent_nights(open_store(address), dataset):
            text = nights_markdown(dataset, rows)
            ui.show_markdown(f"accuracy-over-nights-{dataset}", text, nights_headline(rows))


def notify_of_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - names of Prefect
    """Notify, and tag a run that failed before it was named, as far as its parameters decide the tags."""
    notify_failed(flow_run, state)
    if flow_run.parameters.get("resume"):
        return
    with suppress(ValidationError), ui.optional(), get_client(sync_client=True) as client:  # ValidationError: the cause
        config = RunConfig.model_validate(flow_run.parameters.get("config") or {})
        current = client.read_flow_run(flow_run.id)
        if not any(tag.startswith("dataset:") for tag in current.tags):
            tags = _tags(RunRequest("", config), config.dataset_name)
            if "timezone" in flow_run.parameters:  # the seed of a night is its date
                del tags["seed"]
            ui.update_flow_run(current.name, tags)


HOOKS: Final[dict[str, Any]] = {
    "on_running": [prepare_flow_run],
    "on_completion": [show_summary],
    "on_failure": [notify_of_failure],
    "on_crashed": [notify_of_failure],
}
