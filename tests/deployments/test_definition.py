"""Definitions of deployments: what cannot run is refused in one line that names the place in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import deploy
from deployments.definition import DEFINITION, PULL, read_definition
from mnist_bp.errors import ConfigError


def definition_with(path: Path, **changes: Any) -> Path:
    """Write our definition with changes of the nightly; None removes a key."""
    definition = yaml.safe_load(DEFINITION.read_text())
    nightly = definition["deployments"][1]
    nightly |= changes
    for name in [name for name, value in changes.items() if value is None]:
        del nightly[name]
    file = path / "prefect.yaml"
    file.write_text(yaml.safe_dump(definition))
    return file


def test_our_definition_is_taken_as_it_is() -> None:
    assert read_definition(DEFINITION) == yaml.safe_load(DEFINITION.read_text())


def schedule(**changes: Any) -> list[dict[str, Any]]:
    return [{"slug": "often", "cron": "0 2 * * *", "timezone": "UTC", **changes}]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, "deployments.1.name: Field required; expected deployments as in "),
        ({"schedules": ["0 2 * * *"]}, "deployments.1.schedules.0: Input should be a valid dictionary"),
        ({"schedules": [{"cron": "0 2 * * *"}]}, "deployments.1.schedules.0.slug: Field required"),
        (
            {"schedules": None, "schedule": {"cron": "0 2 * * *"}},
            "deployments.1.schedule: expected schedules, a list, each with a slug",
        ),
        ({"schedules": schedule(cron="0 25 * * *")}, "nightly, schedule often: cron '0 25 * * *' in 'UTC': "),
        ({"schedules": schedule(timezone="UTD"), "parameters": {"timezone": "UTD"}}, "in 'UTD': timezone: "),
        (
            {"schedules": schedule(timezone="Africa/Cairo")},
            "often: it is in the time zone Africa/Cairo, and the",
        ),
        (
            {"parameters": {"timezone": "Africa/Cairo"}},
            "in the time zone UTC, and the parameter timezone is Africa/Cairo",
        ),
        ({"parameters": {"config": {"datset": "mnist"}}}, "nightly: parameters: config: datset: Extra inputs"),
        (
            {"schedules": schedule(parameters={"config": {"steps": 0}})},
            "nightly, schedule often: parameters: config: steps: Input should be greater than or equal to 1",
        ),
        (
            {"entrypoint": "flows.nope.nightly"},
            "nightly: entrypoint flows.nope.nightly: no module flows.nope",
        ),
    ],
    ids=str,
)
def test_what_cannot_run_is_one_line(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_definition(definition_with(tmp_path, **changes))
    assert expected in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("deployment: []", "deployments: Field required"),
        ("deployments: []", "deployments: List should have at least 1 item"),
        ("", "Input should be a valid dictionary"),
        ("a: [", "no YAML: while parsing a flow node"),
        (None, "No such file or directory: expected a file as "),
    ],
    ids=str,
)
def test_a_file_that_defines_nothing_is_one_line(
    content: str | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prefect.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as caught:
        deploy.main(["--file", str(file)])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --file {file}: ")
    assert expected in line


@pytest.mark.parametrize("where", ["deployment", "schedule"])
def test_a_schedule_is_in_the_time_zone_of_its_nights(where: str, tmp_path: Path) -> None:
    parameters = {"timezone": "Africa/Cairo"}
    changes: dict[str, dict[str, Any]] = {
        "deployment": {"parameters": parameters, "schedules": schedule(timezone="Africa/Cairo")},
        "schedule": {"schedules": schedule(timezone="Africa/Cairo", parameters=parameters)},
    }
    assert read_definition(definition_with(tmp_path, **changes[where]))


def test_without_a_pull_step_ours_is_added(tmp_path: Path) -> None:
    """Prefect's would be to enter the directory of the deployer, on every worker."""
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - name: bare\n    entrypoint: flows.train.train\n    schedules:\n")
    assert read_definition(file)["pull"] == PULL == yaml.safe_load(DEFINITION.read_text())["pull"]
    file.write_text("pull: []\n" + file.read_text())
    assert read_definition(file)["pull"] == []


def test_each_deployment_goes_to_the_pool_that_it_names_unless_one_is_given_for_all(tmp_path: Path) -> None:
    definition = read_definition(definition_with(tmp_path, work_pool={"name": "gpu", "job_variables": {"env": {}}}))
    del definition["deployments"][0]["work_pool"]

    def pools(given: str | None) -> list[str]:
        return [each["work_pool"]["name"] for each in deploy.with_pools(definition, given)["deployments"]]

    assert pools(None) == ["mnist-bp", "gpu"]
    assert pools("other") == ["other", "other"]
    assert deploy.with_pools(definition, None)["deployments"][1]["work_pool"]["job_variables"] == {"env": {}}
