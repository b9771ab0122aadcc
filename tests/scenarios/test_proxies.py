"""Proxy variables of the environment, for downloads and stores: a proxy that does not answer is named in one line."""

from __future__ import annotations

import os

import pytest

from flows.runtime.proxies import bypass_proxies_on_loopback
from mnist_bp.cli.main import main
from tests.support.bad_http import BadHttp

DEAD = "user:canary@127.0.0.1:9"
MIRROR = ["train", "--dataset", "mnist"]
STORE = ["runs", "--artifacts", "s3://bucket/prefix"]


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror and a store, which the proxies keep from being reached."""
    for name in ("http_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MNIST_BP_MIRRORS", "http://mirror.test/")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store.test")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("mnist_bp.pipeline.DOWNLOAD_WAITS_S", ())
    monkeypatch.setattr("mnist_bp.storage.retries.MAX_WAIT_S", 0.01)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [
        (MIRROR, "HTTP_PROXY", f"http://{DEAD}"),
        (MIRROR, "HTTP_PROXY", "http://user:canary/x@127.0.0.1:9"),  # the slash ends the host
        (MIRROR, "ALL_PROXY", f"socks5://{DEAD}"),
        (MIRROR, "ALL_PROXY", f"socks://{DEAD}/"),
        (MIRROR, "ALL_PROXY", f"nonsense://{DEAD}"),
        (STORE, "HTTP_PROXY", f"http://{DEAD}"),
        (STORE, "HTTP_PROXY", f"socks5://{DEAD}"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_proxy_that_cannot_be_used_is_one_line_that_names_its_variable_and_not_its_password(
    command: list[str], variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert f"correct {variable}" in line or f"the proxy in {variable}" in line
    assert "canary" not in line


@pytest.mark.usefixtures("own_signals")
def test_a_host_in_no_proxy_is_reached_without_the_proxy_and_no_message_names_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://{DEAD}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with BadHttp({}) as mirror:
        monkeypatch.setenv("MNIST_BP_MIRRORS", mirror.url)
        assert main(MIRROR) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "HTTP 404" in line
    assert "PROXY" not in line


def test_an_exemption_of_every_host_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    bypass_proxies_on_loopback()
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == ("*", "*")
