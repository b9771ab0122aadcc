"""What the container files state twice, or promise: no container engine runs here (deployments/README.md)."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deployments.alarms import AlarmsCommand
from deployments.deploy import DeployCommand
from deployments.worker import WorkerCommand
from flows.runtime.crashed_runs import HOST_VARIABLE
from flows.runtime.working import STOP_TIMEOUT_S
from mnist_bp.cli.flags import Command, parse

REPOSITORY: Final = Path(__file__).parents[2]
DOCKERFILE: Final = (REPOSITORY / "deployments/Dockerfile").read_text()
MAKEFILE: Final = (REPOSITORY / "Makefile").read_text()
LOCK: Final = (REPOSITORY / "requirements.lock").read_text()
PROJECT: Final[dict[str, Any]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load((REPOSITORY / "deployments/compose.yaml").read_text())[
    "services"
]
LASTING: Final = sorted(set(SERVICES) - {"deploy"})


def locked(package: str) -> str:
    """The version of a package in the lock."""
    found = re.search(rf"^{package}==(\S+)", LOCK, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_servers_prefect_is_that_of_the_lock() -> None:
    assert SERVICES["server"]["image"].startswith(f"prefecthq/prefect:{locked('prefect')}-python")


def test_the_image_is_named_after_the_version_of_the_project() -> None:
    for service in ("deploy", "worker"):
        assert SERVICES[service]["image"] == f"mnist-bp:{PROJECT['project']['version']}"


def test_an_image_is_built_on_one_version_of_each_base_image() -> None:
    based_on = re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, re.MULTILINE)
    started = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert len(based_on) == 3
    for image in [*based_on, *started]:
        assert re.search(r":\d+\.\d+", image), image


def test_images_are_built_by_the_tools_of_the_makefile() -> None:
    assert re.findall(r"uv==(\S+)", DOCKERFILE) == re.findall(r"^UV_VERSION := (\S+)", MAKEFILE, re.MULTILINE)
    (minio,) = re.findall(r"github\.com/minio/minio@\S+", DOCKERFILE)
    assert minio in MAKEFILE


def test_the_context_of_a_build_contains_every_package_and_what_the_build_reads() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    included = {line[1:] for line in lines if line.startswith("!")}
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    found = {path.name for path in REPOSITORY.iterdir() if any(fnmatch(path.name, each) for each in packages)}
    assert found == {"bench", "deployments", "flows", "mnist_bp", "tasks"}
    assert included == found | {"pyproject.toml", "requirements.lock", PROJECT["project"]["readme"]}
    rules = [line for line in lines if not line.startswith(("#", "!"))]
    assert rules[0] == "*"  # everything else is left out
    assert {"deployments/Dockerfile", "deployments/compose.yaml"} < set(rules)  # a changed one builds nothing again


def test_a_changed_source_does_not_install_the_packages_again() -> None:
    """An engine repeats a step if a file that an earlier step of its stage copies has changed."""
    stages = {stage.split()[2]: stage for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]}
    assert re.findall(r"^COPY (.*)", stages["packages"], re.MULTILINE) == ["pyproject.toml requirements.lock ./"]
    assert "--constraints requirements.lock" in stages["packages"]
    assert [name for name, stage in stages.items() if stage.startswith("packages ")] == ["wheel", "mnist-bp"]


def test_without_cuda_torch_has_the_locked_version_and_no_digest_of_other_files(tmp_path: Path) -> None:
    (edit,) = re.findall(r"(sed -E -i .*) requirements\.lock; fi", DOCKERFILE)
    edited = tmp_path / "requirements.lock"
    edited.write_text(LOCK)
    subprocess.run([*shlex.split(edit), str(edited)], check=True)
    before, after = set(LOCK.splitlines()), set(edited.read_text().splitlines())
    removed = before - after
    torch = {f"{name}=={locked(name)}" for name in ("torch", "torchvision")}
    assert {line for line in removed if "--hash" not in line} == {f"{pin} \\" for pin in torch}
    assert after - before == torch  # neither a line that goes on, nor one of theirs with a digest


@pytest.mark.parametrize("service", LASTING)
def test_a_service_that_ends_or_hangs_is_noticed(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert "start_period" in SERVICES[service]["healthcheck"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_port_is_reachable_from_other_machines(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))


def test_the_database_is_ready_once_it_listens_where_the_server_connects() -> None:
    """While it creates the database, PostgreSQL listens on its socket alone, and pg_isready asks there by default."""
    ready = SERVICES["database"]["healthcheck"]["test"]
    assert ready[ready.index("--host") + 1] == "127.0.0.1"


def test_links_lead_to_the_port_that_a_browser_of_the_machine_reaches() -> None:
    (published,) = SERVICES["server"]["ports"]
    address = f"http://{published.removesuffix(':4200')}"
    assert SERVICES["server"]["environment"]["PREFECT_SERVER_UI_API_URL"] == f"{address}/api"
    for service in ("server", "deploy", "worker"):
        assert SERVICES[service]["environment"]["PREFECT_UI_URL"] == address


def test_a_restart_of_the_worker_deploys_nothing() -> None:
    assert SERVICES["worker"]["depends_on"]["deploy"] == {"condition": "service_completed_successfully"}
    assert SERVICES["deploy"]["restart"].startswith("on-failure")  # not again, once it has succeeded


def test_the_worker_is_given_longer_to_stop_than_it_takes() -> None:
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) >= 2 * STOP_TIMEOUT_S


def test_a_worker_that_starts_again_is_known_by_a_name_that_no_other_has() -> None:
    worker = SERVICES["worker"]
    assert worker["environment"][HOST_VARIABLE] == worker["hostname"] == worker["container_name"]


@pytest.mark.parametrize(
    ("service", "command", "flags"),
    [
        ("deploy", DeployCommand, {"pool": "mnist-bp"}),
        ("deploy", AlarmsCommand, {"without_webhook": True}),
        ("worker", WorkerCommand, {"pool": "mnist-bp", "with_healthcheck": True}),
    ],
)
def test_the_commands_of_the_services_exist_and_take_their_flags(
    service: str, command: type[Command], flags: dict[str, object]
) -> None:
    (given,) = re.findall(rf"python -m {re.escape(command.__module__)} (.*)", " ".join(SERVICES[service]["command"]))
    parsed = parse(command, re.findall(r"--[\w-]+|(?<=--pool )\S+", given))
    assert parsed.model_dump().items() >= flags.items()


@pytest.mark.parametrize(("url", "flags"), [("", "--without-webhook"), ("https://hooks.example.org/secret", "")])
def test_alarms_are_posted_if_there_is_a_webhook(url: str, flags: str) -> None:
    line = SERVICES["deploy"]["command"][-1].splitlines()[-1].replace("$$", "$")  # as compose passes it on
    shown = line.replace("python -m deployments.alarms", "echo flags:")
    done = subprocess.run(
        ["/bin/sh", "-ec", shown], env={"MNIST_BP_WEBHOOK_URL": url}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"flags: {flags}".strip()
