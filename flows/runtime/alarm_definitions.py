"""The alarms of a Prefect server, as automations: when each is raised, and its message in the JSON of Slack.

The server raises them, so they need no flow, no worker and no other machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.runtime.crashed_runs import FLOW, RESUME, RUN_ID

FAILED_ALARM: Final = "mnist-bp run failed"
KEPT: Final = "mnist-bp.promotion.kept"
REFUSED: Final = "mnist-bp.promotion.refused"

_ANY: Final = "prefect.flow-run.*"
"""Every event of a flow run, which includes heartbeats and each change of its state."""

_DESCRIPTION: Final = "Set by make alarms, which keeps whether it is enabled."


@dataclass(frozen=True)
class Waits:
    """After which times the absence of an event raises an alarm; each at least 10 s.

    Args:
        start: From when a run is late or pending until it starts.
        heartbeat: Between two heartbeats of a run; more than three of PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 180 s.
        completion: Between two completed nightly runs.
    """

    start: timedelta = timedelta(minutes=10)
    heartbeat: timedelta = timedelta(minutes=10)
    completion: timedelta = timedelta(hours=26)


WAITS: Final = Waits()


def alarms(block: UUID, ui: str, waits: Waits = WAITS) -> list[AutomationCore]:
    """Define the alarms.

    Args:
        block: Id of the webhook block.
        ui: Address of Prefect's UI, for links.
        waits: Times after which absent events raise an alarm.
    """

    def alarm(name: str, trigger: EventTrigger, text: str) -> AutomationCore:
        action = CallWebhook(block_document_id=block, payload=_payload(ui, text))
        return AutomationCore(name=name, description=_DESCRIPTION, tags=[FLOW], trigger=trigger, actions=[action])

    return [
        alarm(
            "mnist-bp run is late",
            _absence({"prefect.flow-run.Late"}, waits.start),
            f"a run {_DUE} and has not been started: no process serves its deployment, or all are busy\n{_FLOW_RUN}",
        ),
        alarm(
            "mnist-bp run stays pending",
            _absence(_PREPARED, waits.start),
            f"a run {_DUE} and has not begun after {_words(waits.start)} of preparation\n{_FLOW_RUN}",
        ),
        alarm(
            "mnist-bp nightly has not completed",
            _no_night(waits.completion),
            f"no nightly run has completed within {_words(waits.completion)}"
            + _if("flow_run", f"\nthe last that did:\n{_FLOW_RUN}")
            + "\nsee {{ ui }}/deployments",
        ),
        alarm(
            FAILED_ALARM,
            _once_per_attempt({_ANY}, {"prefect.state-type": [StateType.FAILED.value, StateType.CRASHED.value]}),
            f"a run has ended as {_STATE}\n{_FLOW_RUN}"
            + _if(_RESUME, f"\nif it has begun to train, resume it with: {_value(_RESUME)}"),
        ),
        alarm(
            "mnist-bp run cancelled for overlap",
            _presence({"prefect.flow-run.Cancelled"}, {"prefect.state-message": "*concurrency limit*"}),
            f"a run was cancelled because another run of its deployment was in progress\n{_FLOW_RUN}",
        ),
        alarm(
            "mnist-bp run not promoted",
            EventTrigger(posture=Posture.Reactive, expect={KEPT, REFUSED}),
            f"{_value('event.payload.message')}\n{_FLOW_RUN}"
            + _if("event.payload.resume", f"\nonce that is repaired, resume it with: {_value('event.payload.resume')}"),
        ),
        lost_runs(waits),
    ]


def lost_runs(waits: Waits = WAITS) -> AutomationCore:
    """Define the alarm that posts nothing, but marks runs as Crashed."""
    return AutomationCore(
        name="mnist-bp runs without a heartbeat are crashed",
        description=f"Marks a run as Crashed when its machine is lost. {_DESCRIPTION}",
        tags=[FLOW],
        trigger=_absence({"prefect.flow-run.Running", "prefect.flow-run.heartbeat"}, waits.heartbeat, deployed=True),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"It has sent no heartbeat for {_words(waits.heartbeat)}.",
            )
        ],
    )


# ---------------------------------------------------------------------------------------------------------------------
# messages, as templates that the server fills in


def _value(expression: str) -> str:
    return f"{{{{ {expression} }}}}"


def _if(expression: str, text: str) -> str:
    return f"{{% if {expression} %}}{text}{{% endif %}}"


def _payload(ui: str, text: str) -> str:
    """Return the template of a Slack message, in which &, < and > are escaped."""
    escaped = 'trim | replace("&", "&amp;") | replace("<", "&lt;") | replace(">", "&gt;") | tojson'
    setting = f"{{% set ui = {json.dumps(ui.rstrip('/'))} %}}"
    return f'{setting}{{"text": {{% filter {escaped} %}}mnist-bp: {text}{{% endfilter %}}}}'


def _words(time: timedelta) -> str:
    hours, seconds = divmod(time.total_seconds(), 3600)
    return f"{hours:.0f} hours" if hours and not seconds else f"{time.total_seconds() / 60:g} minutes"


_PREPARED: Final = {f"prefect.flow-run.{state}" for state in ("Pending", "Submitting", "InfrastructurePending")}
"""Events of a run that is handed to a worker, which may end at any of them; all three states are of type Pending."""

_RUN: Final = f'flow_run.labels["{RUN_ID}"]'
_RESUME: Final = f'flow_run.labels["{RESUME}"]'
_DUE: Final = f"was due at {_value('flow_run.expected_start_time')}"
_STATE: Final = f"{_value('flow_run.state.name')}: {_value('flow_run.state.message')}"
_FLOW_RUN: Final = (
    _if(_RUN, f"run {_value(_RUN)}, ")
    + f"flow run {_value('flow_run.name')} ({_value('flow_run.id')})"
    + _if("deployment", f" of {FLOW}/{_value('deployment.name')}")
    + f"\n{_value('ui')}/runs/flow-run/{_value('flow_run.id')}"
)


# ---------------------------------------------------------------------------------------------------------------------
# triggers

_RUNS: Final = {"prefect.resource.id": _ANY}
_OF_FLOW: Final = {"prefect.resource.role": "flow", "prefect.resource.name": FLOW}
_OF_DEPLOYMENT: Final = {"prefect.resource.role": "deployment"}


def _presence(expect: set[str], match: dict[str, Any]) -> EventTrigger:
    """Fire at each event of a run of the flow with these labels."""
    return EventTrigger.model_validate(
        {"posture": Posture.Reactive, "match": {**_RUNS, **match}, "match_related": _OF_FLOW, "expect": expect}
    )


def _once_per_attempt(expect: set[str], match: dict[str, Any]) -> EventTrigger:
    """Fire at the first such event of each attempt of a run, and at most once an hour.

    The server (3.9.1) also emits the event of a state that it then refuses, and a worker proposes a state twice.
    """
    for_each = {"prefect.resource.id", "prefect.run-count"}
    return _presence(expect, match).model_copy(update={"for_each": for_each, "within": timedelta(hours=1)})


def _absence(after: set[str], within: timedelta, *, deployed: bool = False) -> EventTrigger:
    """Fire when no event of a run follows one of these.

    Args:
        after: Names of the events.
        within: Time to wait.
        deployed: Whether to leave out the runs of scripts, which send no heartbeats.
    """
    return EventTrigger.model_validate(
        {
            "posture": Posture.Proactive,
            "match": _RUNS,
            "match_related": [_OF_FLOW, _OF_DEPLOYMENT] if deployed else _OF_FLOW,
            "for_each": {"prefect.resource.id"},
            "after": after,
            "expect": {_ANY},
            "within": within,
        }
    )


def _no_night(within: timedelta) -> EventTrigger:
    """Fire when no nightly run has completed for some time.

    As `after` names the same event, each completed run starts the time again; without it, Prefect would look at fixed
    periods, and twice the time may pass. Without `for_each`, the server starts the first period by itself, and another
    one some time after it has fired: no event is needed.
    """
    completed = {"prefect.flow-run.Completed"}
    return EventTrigger.model_validate(
        {
            "posture": Posture.Proactive,
            "match": _RUNS,
            "match_related": [_OF_FLOW, {**_OF_DEPLOYMENT, "prefect.resource.name": "nightly"}],
            "after": completed,
            "expect": completed,
            "within": within,
        }
    )
