"""Access to a Prefect server: its port, its password, and the hosts and origins that it answers."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prefect import get_client
from prefect.events.clients import PrefectEventsClient
from prefect.events.schemas.events import Event, Resource
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.runtime.password import FILE, write_password
from flows.runtime.server import LocalServer, ServerError
from tests.support.scripts import prefect_home
from tests.support.serving import client_of

FOREIGN = "http://evil.example"


@pytest.fixture(scope="module")
def server(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server as the script and `serve.py` start it, in an environment made for another server."""
    home = prefect_home(tmp_path_factory.mktemp("access"), migrated_database)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_HOME", str(home))
        environment.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        environment.setenv("PREFECT_SERVER_API_AUTH_STRING", "user:of-another-server")
        environment.setenv("PREFECT_SERVER_API_BASE_PATH", "/elsewhere")
        environment.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "*")
        with LocalServer() as running:
            yield running


def credentials(server: LocalServer) -> httpx.BasicAuth:
    user, _, password = server.password.partition(":")
    return httpx.BasicAuth(user, password)


@pytest.mark.parametrize(
    "path", ["/api/admin/version", "/api/flow_runs/filter", "/api/deployments/", "/api/admin/settings"]
)
@pytest.mark.parametrize("auth", [None, httpx.BasicAuth("mnist-bp", "wrong")])
def test_without_the_right_password_nothing_is_answered(
    path: str, auth: httpx.BasicAuth | None, server: LocalServer
) -> None:
    url = server.url.removesuffix("/api") + path
    for method in ("GET", "POST"):
        assert httpx.request(method, url, json={}, auth=auth).status_code == 401


def test_the_right_password_opens_it_and_the_health_check_needs_none(server: LocalServer) -> None:
    assert httpx.get(f"{server.url}/admin/version", auth=credentials(server)).status_code == 200
    assert httpx.get(f"{server.url}/health").json() is True


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_page_of_another_origin_is_refused_before_and_with_its_request(origin: str, server: LocalServer) -> None:
    """Even with the right password, which a page does not have."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{server.url}/deployments/", headers=asked)
    assert (preflight.status_code, preflight.headers.get("Access-Control-Allow-Origin")) == (403, None)
    body = {"name": "evil", "flow_id": "0", "pull_steps": [{"prefect.deployments.steps.run_shell_script": {}}]}
    posted = httpx.post(f"{server.url}/deployments/", headers={"Origin": origin}, json=body, auth=credentials(server))
    assert (posted.status_code, posted.headers.get("Access-Control-Allow-Origin")) == (403, None)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_its_own_page_may_send_requests(name: str, server: LocalServer) -> None:
    origin = f"http://{name}:{server.port}"
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{server.url}/deployments/", headers=asked)
    assert preflight.is_success
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    page = httpx.get(f"http://127.0.0.1:{server.port}/api/health", headers={"Host": f"{name}:{server.port}"})
    assert page.status_code == 200


def test_a_request_to_another_host_name_is_refused(server: LocalServer) -> None:
    """A name of a page, which DNS has rebound to this machine."""
    for host in (f"evil.example:{server.port}", "evil.example", "127.0.0.1", "127.0.0.1:1", ""):
        for path in ("/health", "/admin/version"):
            reply = httpx.get(f"{server.url}{path}", headers={"Host": host}, auth=credentials(server))
            assert reply.status_code in (400, 403), host


def test_websockets_need_the_origin_and_the_password_too(server: LocalServer) -> None:
    address = f"ws://127.0.0.1:{server.port}/api/events/in"
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, origin=FOREIGN, subprotocols=["prefect"])  # type: ignore[arg-type, list-item]
    with connect(address, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        socket.send('{"type": "auth", "token": "wrong"}')
        with pytest.raises(Exception, match="1008"):
            socket.recv(timeout=20)


def test_prefects_client_and_its_events_use_the_password(server: LocalServer) -> None:
    async def send() -> None:
        async with PrefectEventsClient() as events:
            await events.emit(Event(event="mnist-bp.test", resource=Resource({"prefect.resource.id": "mnist-bp.test"})))

    with client_of(server.url, server.password), get_client(sync_client=True) as client:
        assert client.api_version()
        asyncio.run(send())


def test_the_password_is_on_no_command_line(server: LocalServer) -> None:
    (child,) = [each for each in psutil.Process().children() if "flows.runtime.server" in each.cmdline()]
    assert server.password.partition(":")[2] not in " ".join(child.cmdline())


def test_a_port_that_is_taken_is_named(server: LocalServer) -> None:
    with pytest.raises(ServerError, match=f"--port {server.port} is not available"):
        LocalServer(server.port)


def test_two_servers_have_two_passwords(server: LocalServer) -> None:
    other = LocalServer()
    other.stop()
    assert other.password != server.password


def test_a_written_password_is_for_its_owner_alone_and_replaces_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "new" / "home"))
    file = tmp_path / "new" / "home" / FILE
    before = os.umask(0)
    try:
        for password in ("mnist-bp:first", "mnist-bp:second"):
            write_password(password)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.read_text() == f"{password}\n"
    finally:
        os.umask(before)
    assert list(file.parent.iterdir()) == [file]
