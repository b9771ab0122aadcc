"""What AWS_ENDPOINT_URL_S3 must not be: the address of a web server that is no store, or one with a password."""

from __future__ import annotations

import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mnist_bp.cli.main import main
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from tests.support.s3_servers import free_endpoint
from tests.support.store_files import error_of, put

PLACE = "s3://bucket/prefix"
PASSWORD = "canary-9f3c"
HTML = b"<html><body>Please log in<br></body></html>"


@dataclass(frozen=True)
class Page:
    """The reply of a web server to every request."""

    name: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


PAGES = [
    Page("a page for everything", 200, {"Content-Type": "text/html"}, HTML),
    Page("a page of proper XML", 200, {"Content-Type": "text/html"}, b"<html><body/></html>"),
    Page("nothing for everything", 200),
    Page("JSON for everything", 200, {"Content-Type": "application/json"}, b"{}"),
    Page("a redirect to itself", 302, {"Location": "/log-in"}),
    Page("a login", 401, {"WWW-Authenticate": "Basic"}),
    Page("not found", 404, {"Content-Type": "text/html"}, HTML),
    Page("no such method", 405),
    Page("no such method, by Python", 501, {"Content-Type": "text/html"}, HTML),
]

ACTIONS: dict[str, Callable[[Store], object]] = {
    "check_writable": lambda store: store.check_writable(),
    "put": lambda store: put(store, "key", b"content"),
    "get": lambda store: store.get("key"),
    "stream": lambda store: list(store.stream("key")),
    "list": lambda store: list(store.list_entries()),
    "read": lambda store: store.read("key"),
    "create": lambda store: store.create("key", b"content"),
    "remove_leftovers": lambda store: store.remove_leftovers(datetime.now(UTC)),
}


class WebServer(ThreadingHTTPServer):
    """A server of one page, which counts the requests."""

    def __init__(self, page: Page) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page, self.requests = page, 0
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_any(self) -> None:
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page = self.server.page
        self.send_response(page.status)
        for name, value in {**page.headers, "Content-Length": str(len(page.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815 (the names are http.server's)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Log nothing."""


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def web_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _credentials: None
) -> Iterator[WebServer]:
    server = WebServer(request.param)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ACTIONS)
def test_a_web_server_that_is_not_a_store_is_an_error_at_the_first_request(name: str, web_server: WebServer) -> None:
    error = error_of(lambda: ACTIONS[name](open_store(PLACE)))
    assert f"{web_server.endpoint} is not an S3 store: it answered with HTTP {web_server.page.status}" in str(error)
    assert "set AWS_ENDPOINT_URL_S3 to the address and port of a store" in str(error)
    assert PLACE in str(error)
    assert not error.transient
    assert web_server.requests == 1


def test_a_page_in_reply_to_a_deletion_is_an_error(web_server: WebServer) -> None:
    """An empty reply with status 200 cannot be distinguished from success; earlier requests are refused."""
    if web_server.page == Page("nothing for everything", 200):
        return
    error = error_of(lambda: open_store(PLACE).delete("key"))
    assert f"is not an S3 store: it answered with HTTP {web_server.page.status}" in str(error)
    assert web_server.requests == 1


def test_store_check_and_runs_report_a_web_server_in_one_line(
    web_server: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "--artifacts", PLACE]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot list {PLACE}/runs/: {web_server.endpoint} is not an S3 store")
    assert main(["store", "check", "--artifacts", PLACE, "--json"]) == 1
    assert "is not an S3 store" in capsys.readouterr().out


@pytest.mark.parametrize(
    "address",
    [
        f"http://user:{PASSWORD}@127.0.0.1:1",
        f"http://{PASSWORD}@127.0.0.1:1",
        f"http://user:{PASSWORD}/with/slashes@127.0.0.1:1",
        f"http://user:{PASSWORD} with spaces@127.0.0.1:1",
        f"http://user:{PASSWORD}@127.0.0.1:no-port",
        f"http://user:{PASSWORD}@no such host",
        f"user:{PASSWORD}@127.0.0.1:1",
    ],
)
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.usefixtures("_credentials")
def test_a_password_in_the_endpoint_is_refused_and_in_no_message_traceback_or_log(
    variable: str, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, address)
    caplog.set_level(logging.DEBUG)
    error = error_of(lambda: put(open_store(PLACE), "key", b"content"))
    assert "AWS_ENDPOINT_URL_S3" in str(error)
    assert "credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(error)
    assert not error.transient
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)  # a suppressed one as well
    assert PASSWORD not in "".join(traceback.format_exception(error))
    assert not [each for each in chain if PASSWORD in repr(each)]
    assert PASSWORD not in caplog.text


@pytest.mark.usefixtures("_credentials")
def test_an_endpoint_that_is_not_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "127.0.0.1:9000")
    assert "127.0.0.1:9000; check AWS_ENDPOINT_URL_S3" in str(error_of(lambda: open_store(PLACE).get("key")))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint := free_endpoint())
    assert endpoint in str(error_of(lambda: open_store(PLACE, attempts=1).get("key")))


@pytest.mark.usefixtures("_credentials")
def test_an_unknown_host_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://no-such-host.invalid:9000")
    error = error_of(lambda: open_store(PLACE).get("key"))
    assert "http://no-such-host.invalid:9000/bucket/prefix/key" in str(error)
    assert "no host has this name; check AWS_ENDPOINT_URL_S3" in str(error)
    assert not error.transient


@pytest.mark.usefixtures("_credentials")
def test_a_failed_look_up_of_a_host_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    look_ups = []

    def look_up(*_: object, **__: object) -> None:
        look_ups.append(1)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://host.invalid:9000")
    error = error_of(lambda: open_store(PLACE, attempts=2).get("key"))
    assert (error.transient, len(look_ups)) == (True, 2)


def test_https_to_a_server_of_http_is_an_error_at_the_first_request(
    web_server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", web_server.endpoint.replace("http:", "https:"))
    error = error_of(lambda: open_store(PLACE).get("key"))
    assert "the server does not use TLS: start AWS_ENDPOINT_URL_S3 with http://" in str(error)
    assert not error.transient


@pytest.mark.usefixtures("_credentials")
def test_store_check_of_an_unreachable_store_is_an_ordinary_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint := free_endpoint())
    assert main(["store", "check", "--artifacts", PLACE, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["takes_runs"], report["takes_champions"]) == (False, False)
    assert endpoint in report["findings"][0]["detail"]


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("around", ["{}\r", " {}\n", "{} "])
@pytest.mark.usefixtures("_credentials")
def test_blanks_and_line_breaks_around_the_endpoint_are_ignored(
    around: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = free_endpoint()
    monkeypatch.setenv(variable, around.format(endpoint))
    error = error_of(open_store(PLACE, attempts=1).check_writable)
    assert f'Could not connect to the endpoint URL: "{endpoint}/bucket' in str(error)
