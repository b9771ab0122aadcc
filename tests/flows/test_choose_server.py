"""A Prefect server that settings name: whether it can be used, and the message if not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings

from flows.runtime.choose_server import check_health, unusable
from flows.runtime.password import SERVER_VARIABLE
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
        ("401 Unauthorized", "refused the password: set PREFECT_API_AUTH_STRING"),
        ("403 Forbidden", "refused access"),
        ("404 Not Found", "has no Prefect API (HTTP 404): expected an address that ends in /api"),
        ("500 Internal Server Error", "replies HTTP 500: start it"),
    ],
)
def test_a_server_that_replies_is_not_called_unreachable(status: str, message: str) -> None:
    with cloud(status) as server:
        problem = check_health()
    assert problem is not None
    error = str(unusable(server.endpoint, problem, "start it"))
    assert server.endpoint in error
    assert "cannot reach" not in error
    assert message in error


@pytest.mark.parametrize(("given", "source"), [("", "mnist-bp-password"), ("a:b", f"${SERVER_VARIABLE}")])
def test_a_refused_password_is_followed_by_how_to_get_that_of_make_serve(
    given: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER_VARIABLE, given)
    with cloud("401 Unauthorized") as server:
        problem = check_health()
    assert problem is not None
    assert source in str(unusable(server.endpoint, problem, "start it"))
