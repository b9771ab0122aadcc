"""Notify of runs that fail or do not become champion: as events on Prefect's server, and by a webhook.

`MNIST_BP_WEBHOOK_URL` takes the JSON of a Slack message. The address is a secret: everyone who has it can post. A
server with alarms posts by itself; see `flows.runtime.alarms`.
"""

from __future__ import annotations

import html
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from flows.runtime.alarm_definitions import KEPT, REFUSED
from flows.runtime.alarms import has_alarms
from flows.runtime.crashed_runs import RESUME, Zombie, run_labels
from mnist_bp.errors import ConfigError, without_secrets
from mnist_bp.storage.library_logs import keep_secrets_out_of_logs
from mnist_bp.summary import RunSummary

logger = logging.getLogger(__name__)

WEBHOOK_VARIABLE: Final = "MNIST_BP_WEBHOOK_URL"
FAILED: Final = "mnist-bp.run.failed"

_TIMEOUT_S: Final = 10.0


def check_webhook() -> None:
    """Refuse an unusable webhook address before it is needed.

    Raises:
        ConfigError: It is not http(s)://host/...; the message does not repeat it.
    """
    url = os.environ.get(WEBHOOK_VARIABLE)
    if url and not url.isprintable():
        raise ConfigError(f"{WEBHOOK_VARIABLE} contains a line break or another control character: set it without")
    if url and _host(url) is None:
        raise ConfigError(f"{WEBHOOK_VARIABLE}: expected an address such as https://hooks.example.org/services/...")


def notify_failed(run: FlowRun, state: State[Any]) -> None:
    """Notify that a run failed or crashed."""
    payload = {"state": state.name, "message": state.message}
    _notify(run, FAILED, f"{run.name} {state.name}: {state.message}", payload)


def notify_crashed(zombie: Zombie) -> None:
    """Notify that the process of a run was killed, which the run itself could not, if it was marked: only once."""
    if zombie.refusal is None:
        _notify(zombie.run, FAILED, zombie.line, {"state": "Crashed", "message": zombie.line})


def notify_not_promoted(run: FlowRun, summary: RunSummary) -> None:
    """Notify that a run does not become champion, or that no decision was possible."""
    promotion = summary.promotion
    what = "does not replace" if promotion.outcome == "kept" else "could not challenge"
    champion = promotion.figures and promotion.figures.champion_accuracy
    compared = f"accuracy {summary.accuracy:.4f}, champion's {'unknown' if champion is None else f'{champion:.4f}'}"
    reason = promotion.reason if compared in promotion.reason else f"{promotion.reason} ({compared})"
    text = f"{promotion.run_id} {what} the champion of {promotion.dataset}: {reason}"
    labels = run_labels(Path(summary.run_directory), on_deployment=run.deployment_id is not None)
    payload = {
        "run_id": promotion.run_id,
        "outcome": promotion.outcome,
        "reason": promotion.reason,
        "message": text,
        "accuracy": summary.accuracy,
        "champion_accuracy": "" if champion is None else champion,
        "resume": labels[RESUME] if promotion.error else "",  # without an error it is decided
    }
    _notify(run, REFUSED if promotion.outcome == "refused" else KEPT, text, payload)


def _notify(run: FlowRun, event: str, text: str, payload: Mapping[str, Any]) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
    emit_event(event, resource, payload={name: without_secrets(str(value)) for name, value in payload.items()})
    url = os.environ.get(WEBHOOK_VARIABLE)
    if url and not has_alarms() and (problem := post(url, f"mnist-bp: {without_secrets(text)} (flow run {run.id})")):
        logger.warning(problem, extra={"flow_run_id": run.id})


def post(url: str, text: str) -> str | None:
    """Post a message to a webhook.

    Args:
        url: Address of the webhook; it appears in no message.
        text: The message, in plain text.

    Returns:
        Why the message was not delivered, or None.
    """
    keep_secrets_out_of_logs()
    try:
        reply = httpx.post(url, json={"text": html.escape(text, quote=False)}, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
        return f"{WEBHOOK_VARIABLE} ({_host(url) or 'not a web address'}): no delivery: {type(exc).__name__}"
    return None if reply.is_success else f"{WEBHOOK_VARIABLE} ({_host(url)}): refused: HTTP {reply.status_code}"


def _host(url: str) -> str | None:
    """Return the host of a web address, the only part that is not secret; None if it is not a web address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None
