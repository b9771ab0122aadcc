"""Set the alarms of a Prefect server, which post to a webhook, and ask whether it has them.

The address of the webhook is a secret; the server stores it encrypted, in a block.
"""

from __future__ import annotations

from typing import Any, Final, cast
from uuid import UUID

import httpx
from prefect import get_client
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import PrefectException
from prefect.settings import (
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED,
    PREFECT_UI_URL,
    temporary_settings,
)
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.runtime.alarm_definitions import FAILED_ALARM, WAITS, Waits, alarms, lost_runs

BLOCK: Final = "mnist-bp-alarms"
"""Name of the webhook block that holds the address."""


def set_alarms(webhook_url: str | None, waits: Waits = WAITS) -> dict[str, str]:
    """Create the alarms on the server that Prefect's settings name, or update them; an alarm that was paused stays so.

    Args:
        webhook_url: Address that takes the JSON of Slack messages; None for the alarm alone that needs none.
        waits: Times after which absent events raise an alarm.

    Returns:
        What was done about each alarm, by its name: "created", "updated" or "unchanged".

    Raises:
        httpx.HTTPError, PrefectException: The server does not reply, or refuses.
    """
    wanted = [lost_runs(waits)]
    if webhook_url is not None:
        block = Webhook(url=SecretStr(webhook_url), headers=SecretDict({"Content-Type": "application/json"}))
        block_id = cast("UUID", block.save(BLOCK, overwrite=True))  # a coroutine only inside an event loop
        wanted = alarms(block_id, str(PREFECT_UI_URL.value() or ""), waits)
    with get_client(sync_client=True) as client:
        return {alarm.name: _set(client, alarm) for alarm in wanted}


def _set(client: SyncPrefectClient, alarm: AutomationCore) -> str:
    found = client.read_automations_by_name(alarm.name)
    if not found:
        client.create_automation(alarm)
        return "created"
    existing, *duplicates = found
    for duplicate in duplicates:  # of two processes that set them at once
        client.delete_automation(duplicate.id)
    alarm = alarm.model_copy(update={"enabled": existing.enabled})
    if _content(alarm) == _content(existing):
        return "unchanged"  # an update would start its times again
    client.update_automation(existing.id, alarm)
    return "updated"


def _content(alarm: AutomationCore) -> dict[str, Any]:
    return alarm.model_dump(include=set(AutomationCore.model_fields), exclude={"trigger": {"id"}})


def has_alarms() -> bool:
    """Return whether the server posts alarms itself: the one that settings name, if it was given them."""
    if not PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED.value():  # a script's own: its database may be that of one that has
        return False
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            return bool(client.read_automations_by_name(FAILED_ALARM))
    except (httpx.HTTPError, PrefectException, ValueError):  # ValueError: a reply that is not Prefect's
        return False
