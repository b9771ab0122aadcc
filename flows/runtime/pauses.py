"""What an operator paused stays paused when a deployment is deployed again: Prefect would make it active."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import get_client
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.exceptions import ObjectNotFound


@dataclass(frozen=True)
class Pauses:
    """What is paused of a deployment on the server.

    Args:
        deployment: Whether the deployment itself is paused.
        schedules: Its schedules.
    """

    deployment: bool
    schedules: tuple[DeploymentSchedule, ...]

    def is_active(self, slug: str) -> bool:
        """Return whether a schedule that is deployed again stays active.

        Args:
            slug: Its name within the deployment. A name that is not on the server, such as after an update, is active
                unless all schedules on the server are paused.
        """
        named = [schedule for schedule in self.schedules if schedule.slug == slug] or self.schedules
        return not named or any(schedule.active for schedule in named)


def read_pauses(name: str) -> Pauses:
    """Read what is paused of a deployment.

    Args:
        name: Flow and deployment, such as `mnist-bp/nightly`. Of one that does not exist, nothing is paused.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            return Pauses(deployment=False, schedules=())
    return Pauses(found.paused, tuple(found.schedules))
