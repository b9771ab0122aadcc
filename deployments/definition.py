"""The definition of deployments to a work pool, a file in the format of `prefect.yaml`, checked before it is used.

What Prefect would refuse or misunderstand later is refused here, in one line that names the place in the file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, without_secrets

DEFINITION: Final = Path(__file__).with_name("prefect.yaml")
PULL: Final[list[dict[str, dict[str, str]]]] = [{"mnist_bp.installation.use_installation": {}}]
"""What a worker does before each run if the file does not say it; Prefect's own would be to enter the directory of the
deployer."""

Name = Annotated[str, StringConstraints(min_length=1, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, content: Any) -> Any:
        """Take a name without a value as a missing one, as Prefect does."""
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value is not None}


class Schedule(_Part):
    """When a deployment runs, and what is paused of it by name."""

    slug: Name
    cron: str | None = None
    timezone: str = "UTC"
    parameters: dict[str, Any] = {}


class WorkPool(_Part):
    """Where a deployment runs."""

    name: Name | None = None


class Deployment(_Part):
    """A deployment of a flow."""

    name: Name
    entrypoint: Name
    parameters: dict[str, Any] = {}
    schedules: list[Schedule] = []
    schedule: None = None
    work_pool: WorkPool = WorkPool()


class Definition(_Part):
    """A file of deployments."""

    deployments: list[Deployment] = Field(min_length=1)


def read_definition(path: Path) -> dict[str, Any]:
    """Read and check the definition of deployments; a pull step is added if it has none.

    Raises:
        ConfigError: The file cannot be read, or defines something that cannot run; names the place.
    """
    try:
        content = yaml.safe_load(path.read_text())
        definition = Definition.model_validate(content)
    except ValidationError as exc:
        found = f"{_problem(exc)}; expected deployments as in {DEFINITION}"
    except OSError as exc:
        found = f"{exc.strerror}: expected a file as {DEFINITION}"
    except (ValueError, yaml.YAMLError) as exc:
        found = f"no YAML: {' '.join(str(exc).split())}"
    else:
        found = next(_problems(definition), "")
    if found:
        raise ConfigError(f"--file {path}: {without_secrets(found)}")
    return {"pull": PULL, **content}


def _problems(definition: Definition) -> Iterator[str]:
    """List what cannot run, each with its place."""
    for deployment in definition.deployments:
        module, separator, _ = deployment.entrypoint.rpartition(".")
        if separator and ":" not in deployment.entrypoint and not _exists(module):
            expected = "expected one such as flows.train.train"
            yield f"{deployment.name}: entrypoint {deployment.entrypoint}: no module {module}; {expected}"
        yield from _wrong_config(deployment.name, deployment.parameters)
        for schedule in deployment.schedules:
            place = f"{deployment.name}, schedule {schedule.slug}"
            yield from _wrong_config(place, schedule.parameters)
            yield from _wrong_times(place, schedule)
            night_zone = {**deployment.parameters, **schedule.parameters}.get("timezone", "UTC")
            if schedule.timezone != night_zone:
                yield (
                    f"{place}: it is in the time zone {schedule.timezone}, and the parameter timezone is {night_zone}: "
                    "expected the same zone, since the parameter decides the date of a night"
                )


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _wrong_config(place: str, parameters: dict[str, Any]) -> Iterator[str]:
    """Check the parameter `config`, as the flows do."""
    try:
        RunConfig.model_validate(parameters.get("config") or {})
    except ValidationError as exc:
        yield f"{place}: parameters: config: {_problem(exc)}"


def _wrong_times(place: str, schedule: Schedule) -> Iterator[str]:
    """Check cron and time zone, as Prefect does."""
    if schedule.cron is None:
        return
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    except ValidationError as exc:
        yield f"{place}: cron {schedule.cron!r} in {schedule.timezone!r}: {_problem(exc)}"


def _problem(exc: ValidationError) -> str:
    """Describe the first error of a validation, with its place."""
    first = exc.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    expected = {"none_required": "expected schedules, a list, each with a slug"}
    message = expected.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{place}: {message}" if place else message
