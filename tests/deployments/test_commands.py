"""The commands of `deployments/`: definitions that they take, and a server that refuses a later request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments import alarms, deploy, worker
from deployments.definition import DEFINITION, read_definition
from deployments.serve import ServeCommand, create_deployments
from flows.nightly import NIGHTLY
from flows.runtime.deployment_command import run_deployment_command
from mnist_bp.cli.flags import parse
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.presets import PRESETS
from tests.support.raw_http import RawHttp, Reply, Send, http


def hang_up(send: Send, closing: object) -> None:
    raise ConnectionAbortedError  # which ends the connection


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("command", "flags"),
    [(alarms.main, ["--without-webhook"]), (deploy.main, []), (worker.main, [])],
    ids=["alarms", "deploy", "worker"],
)
@pytest.mark.parametrize(
    ("later", "problem"),
    [
        (http("401 Unauthorized", b"{}"), "refuses requests (HTTP 401): set PREFECT_API_AUTH_STRING"),
        (http("403 Forbidden", b"{}"), "refuses requests (HTTP 403): set PREFECT_API_AUTH_STRING"),
        (http("422 Unprocessable Entity", b"{}"), "refuses requests (HTTP 422): use a server of Prefect "),
        (http("500 Internal Server Error", b"{}"), "refuses requests (HTTP 500): see its log, or try again"),
        (hang_up, "(RemoteProtocolError): start it, or try again"),
    ],
    ids=["401", "403", "422", "500", "hangs-up"],
)
def test_a_server_that_refuses_after_its_first_reply_is_one_line(
    command: Callable[[Sequence[str]], int],
    flags: list[str],
    later: Reply,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply(send: Send, closing: object) -> None:
        first = {"/api/flows/filter": http("200 OK", b"[]"), "/api/csrf-token": http("404 Not Found", b"{}")}
        path = server.requests[-1].split()[1].partition("?")[0]
        first.get(path, later)(send, server.closing)

    with RawHttp(reply) as server:
        address = f"{server.endpoint}/api"
        with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}):
            assert command(flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert address in line
    assert problem in line


@pytest.mark.usefixtures("prefect_server")
def test_an_object_that_another_process_has_deleted_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def update() -> None:
        with get_client(sync_client=True) as client:
            client.delete_deployment(uuid4())

    assert run_deployment_command(update, "connecting", "data") == 1
    (line,) = capsys.readouterr().err.splitlines()
    server = f"error: the Prefect server at {PREFECT_API_URL.value()}"
    assert line == f"{server} was changed by another process (ObjectNotFound): try again"


def test_every_way_to_deploy_trains_relu_128_each_night() -> None:
    expected = PRESETS["relu-128"].model_copy(update={"dataset": "mnist"})
    assert expected == NIGHTLY
    assert RunConfig(**read_definition(DEFINITION)["deployments"][1]["parameters"]["config"]) == expected
    assert nightly_config([]) == expected
    assert nightly_config(["--hidden", "64", "--epochs", "2"]) == expected.model_copy(
        update={"hidden": 64, "steps": 12_000}
    )
    assert nightly_config(["--sweep", "hidden=10,20", "--runner", "ray"]).runner == "ray"
    assert nightly_config(["--preset", "lab-8-4"]) == PRESETS["lab-8-4"].model_copy(update={"dataset": "mnist"})


def test_nights_of_own_images_find_them_from_any_directory_and_count_epochs_once_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(tmp_path)
    for place in ("images:zoo", "idx:zoo/letters", "parquet:s3://bucket/zoo"):
        config = nightly_config(["--dataset", place, "--epochs", "2"])
        monkeypatch.chdir("/")
        kind, _, path = place.partition(":")
        assert config.dataset == (place if "://" in path else f"{kind}:{tmp_path}/{path}")
        assert config.for_examples(100).steps == 20
        monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        parse(ServeCommand, ["--dataset", "images:zoos"])
    assert f"--dataset 'images:zoos': {tmp_path}/zoos does not exist; check the path" in capsys.readouterr().err


def nightly_config(flags: list[str]) -> RunConfig:
    """Return what `serve.py` passes to the nightly flow, without the seed, which the flow decides."""
    _, nightly = create_deployments(parse(ServeCommand, flags))
    assert "seed" not in nightly.parameters["config"]
    return RunConfig(**nightly.parameters["config"])


@pytest.mark.usefixtures("prefect_server")
def test_a_pool_of_another_type_is_not_deployed_to() -> None:
    assert deploy.make_pool("of-processes", None) is None
    assert deploy.make_pool("of-processes", None) == deploy.make_pool("of-processes", "process") == "process"
    with pytest.raises(ConfigError, match="--type docker: the pool of-processes exists, of type process; name another"):
        deploy.make_pool("of-processes", "docker")
