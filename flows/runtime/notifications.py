"""Tells what went wrong, and which runs do not become champion: by events on Prefect's server, and by a webhook.

`MNIST_BP_WEBHOOK_URL` takes the JSON of a Slack message. It is a secret: whoever knows it may post.
"""

from __future__ import annotations

import html
import logging
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.logging.loggers import flow_run_logger

from mnist_bp.documents import PromotionRecord
from mnist_bp.errors import ConfigError, without_secrets

WEBHOOK_VARIABLE: Final = "MNIST_BP_WEBHOOK_URL"
FAILED: Final = "mnist-bp.run.failed"

_PATIENCE: Final = 10.0
"""Seconds that a webhook may take."""


def check_webhook() -> None:
    """Refuse a webhook's address that is none, before it is needed.

    Raises:
        ConfigError: It is not http(s)://host/...; the message does not repeat it.
    """
    url = os.environ.get(WEBHOOK_VARIABLE)
    if url and _host(url) is None:
        raise ConfigError(f"{WEBHOOK_VARIABLE}: expected an address such as https://hooks.example.org/services/...")


def notify_failed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's
    """Tell that a run failed or crashed. A hook of the flow."""
    about = {"state": state.name, "message": state.message}
    _tell(flow_run, FAILED, f"{flow_run.name} {state.name}: {state.message}", about)


def notify_crashed(run: FlowRun) -> None:
    """Tell that a run was found dead: its process could not tell any more."""
    message = "its process was killed; it is marked as Crashed"
    _tell(run, FAILED, f"{run.name}: {message}", {"state": "Crashed", "message": message})


def notify_not_promoted(promotion: PromotionRecord) -> None:
    """Tell that the current run does not become champion, or that this could not be decided."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    what = "does not replace" if promotion.outcome == "kept" else "could not challenge"
    text = f"{promotion.run_id} {what} the champion of {promotion.dataset}: {promotion.reason}"
    payload = {"run_id": promotion.run_id, "outcome": promotion.outcome, "reason": promotion.reason}
    _tell(context.flow_run, f"mnist-bp.promotion.{promotion.outcome}", text, payload)


def _tell(run: FlowRun, event: str, text: str, payload: Mapping[str, Any]) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
    hidden = {name: without_secrets(str(value)) for name, value in payload.items()}
    emit_event(event, resource, payload=hidden)
    if url := os.environ.get(WEBHOOK_VARIABLE):
        problem = post(url, f"mnist-bp: {without_secrets(text)} (flow run {run.id})")
        if problem:
            flow_run_logger(run).log(logging.WARNING, problem)


def post(url: str, text: str) -> str | None:
    """Post a message to a webhook.

    Args:
        url: Where to; it appears in no message.
        text: The message, in plain text.

    Returns:
        Why it did not get there, or None.
    """
    try:
        reply = httpx.post(url, json={"text": html.escape(text, quote=False)}, timeout=_PATIENCE)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
        return f"{WEBHOOK_VARIABLE} ({_host(url) or 'no web address'}) could not be told: {type(exc).__name__}"
    return None if reply.is_success else f"{WEBHOOK_VARIABLE} ({_host(url)}) refused: HTTP {reply.status_code}"


def _host(url: str) -> str | None:
    """Name the host of a web address, all of it that is no secret; None if it is no such address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None
