"""Messages to a webhook, and what is reported when one is not delivered."""

from __future__ import annotations

import logging

import pytest

from flows.runtime.notifications import WEBHOOK_VARIABLE, check_webhook, post
from mnist_bp.errors import ConfigError
from tests.support.serving import webhook


def test_a_message_is_slacks_json_with_its_markup_escaped() -> None:
    with webhook() as hook:
        assert post(hook.url, "a <b> & c") is None
        assert hook.texts == ["a &lt;b&gt; &amp; c"]


def test_a_webhook_that_refuses_is_named_by_its_host_and_not_by_its_secret() -> None:
    with webhook() as hook:
        hook.status = 500
        problem = post(hook.url, "text")
    assert problem is not None
    assert "127.0.0.1" in problem
    assert "HTTP 500" in problem
    assert "secret" not in problem


def test_the_address_of_a_webhook_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")
    with webhook() as hook:
        assert post(hook.url, "text") is None
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/secret", "nonsense/secret", "http://[secret", "http://\n/secret"])
def test_a_webhook_that_is_unreachable_fails_nothing_and_reveals_no_secret(url: str) -> None:
    problem = post(url, "text")
    assert problem is not None
    assert "secret" not in problem


@pytest.mark.parametrize("url", ["nonsense/secret", "https:///secret", "ftp://host/secret", "http://[secret"])
def test_an_invalid_address_is_refused_without_being_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    with pytest.raises(ConfigError, match=f"{WEBHOOK_VARIABLE}: expected an address") as refused:
        check_webhook()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/secret", "HTTPS://hooks.example.org/services/secret"])
def test_a_valid_address_is_accepted_and_so_is_an_unset_variable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    check_webhook()


def test_a_line_break_in_the_webhook_address_is_refused_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, "https://hooks.example.org/canary-5e1d\n")
    with pytest.raises(ConfigError, match=f"{WEBHOOK_VARIABLE} contains a line break") as raised:
        check_webhook()
    assert "canary-5e1d" not in str(raised.value)
