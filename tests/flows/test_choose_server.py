"""A Prefect server that settings name: whether it can be used, and the message if not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import prefect
import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings

from flows.runtime.choose_server import check_health, require_server, separate_password
from flows.runtime.password import CLIENT_VARIABLE, SERVER_VARIABLE
from flows.runtime.server import ServerError
from tests.support.raw_http import RawHttp, Send, http

WORKSPACE = "/api/accounts/1/workspaces/2"


@contextmanager
def cloud(status: str = "200 OK") -> Iterator[RawHttp]:
    """Prefect Cloud, as far as it matters here: a workspace has lists of flows, and no /admin/version."""

    def reply(send: Send, closing: object) -> None:
        lists_flows = f"POST {WORKSPACE}/flows/filter " in server.requests[-1]
        answer = http(status, b"[]") if lists_flows else http("404 Not Found", b"{}")
        answer(send, server.closing)

    with RawHttp(reply) as server:
        api = f"{server.endpoint}/api"
        named = {PREFECT_API_URL: server.endpoint + WORKSPACE, PREFECT_CLOUD_API_URL: api, PREFECT_API_KEY: "pnu_1"}
        with temporary_settings(named):
            yield server


def test_prefect_cloud_which_has_no_version_at_a_workspace_is_used() -> None:
    with cloud() as server:
        assert check_health() is None
    assert server.requests


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401 Unauthorized", "set PREFECT_API_AUTH_STRING (for Prefect Cloud PREFECT_API_KEY); that of make serve: "),
        ("403 Forbidden", "a host that the server answers"),
        ("422 Unprocessable Entity", f"use a server of Prefect {prefect.__version__}"),
        ("500 Internal Server Error", "see its log, or do this"),
        ("502 Bad Gateway", "a proxy in front of it"),
        ("503 Service Unavailable", "see its log, or do this"),
    ],
)
def test_a_server_that_refuses_is_named_with_its_status_and_the_setting_for_credentials(
    status: str, message: str
) -> None:
    with cloud(status) as server, pytest.raises(ServerError) as refused:
        require_server("do this")
    error = str(refused.value)
    assert f"the Prefect server at {server.endpoint}{WORKSPACE} refuses requests (HTTP {status[:3]}): " in error
    assert "PREFECT_API_AUTH_STRING" in error
    assert message in error
    assert "\n" not in error


def test_a_server_that_is_reached_returns_its_address() -> None:
    with cloud() as server:
        assert require_server("do this") == server.endpoint + WORKSPACE


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_address_counts_as_none(nothing: str | None) -> None:
    with temporary_settings({PREFECT_API_URL: nothing}), pytest.raises(ServerError) as refused:
        require_server("do this")
    assert str(refused.value).startswith("no Prefect server is configured: set PREFECT_API_URL, such as http://")
    assert str(refused.value).endswith("or do this")


@pytest.mark.parametrize("end", ["", "/", "/dashboard", "/runs/flow-run/1?tab=logs"])
@pytest.mark.usefixtures("prefect_server")
def test_an_address_without_api_is_refused_with_the_address_that_was_probably_meant(end: str) -> None:
    api = str(PREFECT_API_URL.value())
    with temporary_settings({PREFECT_API_URL: api.removesuffix("/api") + end}), pytest.raises(ServerError) as refused:
        require_server("do this")
    assert "has no Prefect API (HTTP 404): expected an address that ends in /api or, for Cloud, " in str(refused.value)
    assert str(refused.value).endswith(f"PREFECT_API_URL is probably {api}")
    assert require_server("do this") == api


@pytest.mark.parametrize("end", ["", "/api"])
def test_an_address_without_a_scheme_is_refused_with_the_address_that_was_probably_meant(end: str) -> None:
    with temporary_settings({PREFECT_API_URL: f"127.0.0.1:9{end}"}), pytest.raises(ServerError) as refused:
        require_server("do this")
    assert str(refused.value).endswith("start it, or do this; PREFECT_API_URL is probably http://127.0.0.1:9/api")


def test_a_page_in_place_of_a_reply_is_not_called_unreachable() -> None:
    with RawHttp(http("200 OK", b"<html>Please log in</html>")) as server:
        address = f"{server.endpoint}/api"
        with temporary_settings({PREFECT_API_URL: address}), pytest.raises(ServerError) as refused:
            require_server("do this")
    assert f"the server at {address} has no Prefect API (JSONDecodeError)" in str(refused.value)
    assert "probably" not in str(refused.value)


@pytest.mark.parametrize(("given", "source"), [("", "mnist-bp-password"), ("a:b", f"${SERVER_VARIABLE}")])
def test_a_refused_password_is_followed_by_how_to_get_that_of_make_serve(
    given: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER_VARIABLE, given)
    with cloud("401 Unauthorized"), pytest.raises(ServerError) as refused:
        require_server("do this")
    assert source in str(refused.value)


@pytest.mark.parametrize(("given", "used"), [(None, "user:a b"), ("", "user:a b"), ("other:c", "other:c")])
def test_a_password_in_the_address_is_used_unless_its_own_variable_has_one(
    given: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://user:a%20b@127.0.0.1:9/api")
    monkeypatch.setenv(CLIENT_VARIABLE, given or "")
    if given is None:
        monkeypatch.delenv(CLIENT_VARIABLE)
    separate_password()
    assert (os.environ["PREFECT_API_URL"], os.environ[CLIENT_VARIABLE]) == ("http://127.0.0.1:9/api", used)
