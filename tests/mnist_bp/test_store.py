"""Stores: one contract for a directory and for every S3 server present, and what each can refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.store import Store, open_store
from mnist_bp.store.local import LocalStore
from tests.s3_servers import S3Server, environment_of, free_endpoint, serve

REPOSITORY = Path(__file__).parents[2]
PREFIX: Final = "some/prefix"
SIZES: Final = (0, 1, 1 << 20)

ACTIONS: Final[dict[str, Callable[[Store], object]]] = {
    "put": lambda store: store.put("key", local_file(b"content")),
    "get": lambda store: store.get("key"),
    "check_writable": lambda store: store.check_writable(),
}
each_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)


def local_file(content: bytes) -> Path:
    """Write a file to upload into the test's own directory."""
    path = Path("to-upload")
    path.write_bytes(content)
    return path


def error_of(action: Callable[[], object]) -> StoreError:
    """Return the one-line error that an action ends with."""
    with pytest.raises(StoreError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    return caught.value


class StoreContract:
    """What holds for every store. Subclasses say where it is, and how to look there without the store."""

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def listing(self) -> Callable[[], list[str]]:
        """Whatever is there, whoever put it."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, address: str) -> Store:
        return open_store(address)

    @pytest.mark.parametrize("size", SIZES)
    def test_get_and_stream_give_back_the_bytes_that_were_put(self, store: Store, size: int) -> None:
        content = os.urandom(size)
        store.put("deep/down/file.bin", local_file(content))
        assert store.get("deep/down/file.bin") == content
        assert b"".join(store.stream("deep/down/file.bin")) == content

    @pytest.mark.parametrize("size", SIZES)
    def test_stream_starts_where_it_is_told(self, store: Store, size: int) -> None:
        content = os.urandom(size)
        store.put("file.bin", local_file(content))
        for start in {0, size // 3, max(size - 1, 0)}:
            assert b"".join(store.stream("file.bin", start)) == content[start:]

    @pytest.mark.parametrize("size", SIZES)
    def test_stream_from_the_end_gives_nothing(self, store: Store, size: int) -> None:
        store.put("file.bin", local_file(bytes(size)))
        assert list(store.stream("file.bin", size)) == []

    def test_a_large_file_comes_in_pieces(self, store: Store) -> None:
        store.put("file.bin", local_file(bytes(1 << 20)))
        assert len(list(store.stream("file.bin"))) > 1

    def test_a_second_put_replaces_the_first(self, store: Store) -> None:
        for content in (b"the first, which is longer", b"the second"):
            store.put("file.txt", local_file(content))
            assert store.get("file.txt") == content

    def test_keys_with_spaces_umlauts_and_percent_signs_stay_apart(self, store: Store) -> None:
        keys = ["a b.txt", "a+b.txt", "a%20b.txt", "ä b#c?d.txt"]
        for key in keys:
            store.put(key, local_file(key.encode()))
        assert [store.get(key).decode() for key in keys] == keys

    def test_put_leaves_nothing_but_the_file(self, store: Store, listing: Callable[[], list[str]]) -> None:
        store.put("deep/file.txt", local_file(b"content"))
        assert listing() == [f"{PREFIX}/deep/file.txt"]

    @pytest.mark.parametrize("start", [0, 5])
    def test_a_missing_key_is_a_lasting_error_that_names_it(self, store: Store, start: int) -> None:
        error = error_of(lambda: list(store.stream("nowhere.txt", start)))
        assert store.uri("nowhere.txt") in str(error)
        assert not error.transient
        assert not error_of(lambda: store.get("nowhere.txt")).transient

    def test_a_missing_local_file_is_a_lasting_error_that_names_it(self, store: Store) -> None:
        error = error_of(lambda: store.put("file.txt", Path("never-written")))
        assert "never-written" in str(error)
        assert not error.transient

    def test_uri_names_the_place_that_a_second_store_finds(self, store: Store, address: str) -> None:
        assert store.uri("deep/file.txt") == f"{address}/deep/file.txt"
        store.put("deep/file.txt", local_file(b"content"))
        assert open_store(store.uri("deep")).get("file.txt") == b"content"

    def test_check_writable_leaves_nothing_behind(self, store: Store, listing: Callable[[], list[str]]) -> None:
        store.check_writable()
        assert listing() == []
        store.put("file.txt", local_file(b"content"))
        store.check_writable()
        assert listing() == [f"{PREFIX}/file.txt"]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "place" / PREFIX)

    @pytest.fixture
    def listing(self, tmp_path: Path) -> Callable[[], list[str]]:
        place = tmp_path / "place"
        return lambda: [str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()]


class TestS3Store(StoreContract):
    @pytest.fixture
    def address(self, s3_bucket: str) -> str:
        return f"s3://{s3_bucket}/{PREFIX}"

    @pytest.fixture
    def listing(self, s3_admin: Any, s3_bucket: str) -> Callable[[], list[str]]:
        return lambda: [entry["Key"] for entry in s3_admin.list_objects_v2(Bucket=s3_bucket).get("Contents", [])]

    @pytest.fixture
    def refusal(self, s3_server: S3Server) -> Callable[[Callable[[], object]], StoreError]:
        """`error_of`, with no secret anywhere in what a traceback would show."""

        def checked(action: Callable[[], object]) -> StoreError:
            error = error_of(action)
            for secret in (s3_server.secret_key, os.environ.get("AWS_SECRET_ACCESS_KEY")):
                assert secret is None or secret not in "".join(traceback.format_exception(error))
            return error

        return checked

    @each_action
    def test_a_missing_bucket_is_to_be_created(
        self, action: Callable[[Store], object], s3_bucket: str, refusal: Callable[..., StoreError]
    ) -> None:
        error = refusal(lambda: action(open_store("s3://no-such-bucket/prefix")))
        assert "s3://no-such-bucket/prefix/" in str(error)
        assert "NoSuchBucket (HTTP 404); create the bucket or correct the address" in str(error)
        assert not error.transient

    @each_action
    def test_a_wrong_access_key_is_to_be_checked(
        self,
        action: Callable[[Store], object],
        address: str,
        refusal: Callable[..., StoreError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
        error = refusal(lambda: action(open_store(address)))
        assert "(HTTP 403); check AWS_ACCESS_KEY_ID" in str(error)
        assert not error.transient

    @each_action
    def test_a_wrong_secret_is_to_be_checked(
        self,
        action: Callable[[Store], object],
        address: str,
        refusal: Callable[..., StoreError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-what-the-server-knows")
        error = refusal(lambda: action(open_store(address)))
        assert "(HTTP 403); check AWS_SECRET_ACCESS_KEY" in str(error)
        assert not error.transient

    @pytest.mark.parametrize("missing", [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["AWS_SECRET_ACCESS_KEY"]])
    def test_missing_credentials_are_to_be_set(
        self, missing: list[str], address: str, refusal: Callable[..., StoreError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in missing:
            monkeypatch.delenv(name)
        error = refusal(lambda: ACTIONS["put"](open_store(address)))
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(error)
        assert not error.transient

    def test_credentials_are_read_anew_by_each_store(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        open_store(address).check_writable()
        with monkeypatch.context() as wrong:
            wrong.setenv("AWS_SECRET_ACCESS_KEY", "expired")
            with pytest.raises(StoreError):
                open_store(address).check_writable()
        open_store(address).check_writable()

    @each_action
    def test_an_endpoint_without_a_listener_is_transient(
        self,
        action: Callable[[Store], object],
        address: str,
        refusal: Callable[..., StoreError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        endpoint = free_endpoint()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        error = refusal(lambda: action(open_store(address)))
        assert endpoint in str(error)
        assert "check AWS_ENDPOINT_URL_S3" in str(error)
        assert error.transient

    @pytest.mark.parametrize("endpoint", ["localhost:9000", "nonsense"])
    def test_an_endpoint_that_is_no_address_is_a_lasting_error(
        self, endpoint: str, address: str, refusal: Callable[..., StoreError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        error = refusal(lambda: open_store(address).check_writable())
        assert endpoint in str(error)
        assert "AWS_ENDPOINT_URL_S3" in str(error)
        assert not error.transient

    def test_a_password_in_the_endpoint_is_not_repeated(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", free_endpoint().replace("//", "//user:hunter2@"))
        assert "hunter2" not in str(error_of(lambda: open_store(address).check_writable()))


def test_what_was_put_survives_a_killed_s3_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(1 << 20)
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    with serve("rclone", tmp_path / "s3", end_with=signal.SIGKILL) as server:
        for name, value in environment_of(server).items():
            monkeypatch.setenv(name, value)
        open_store(f"s3://bucket/{PREFIX}").put("file.bin", local_file(content))
    store = open_store(f"s3://bucket/{PREFIX}")
    assert error_of(lambda: store.get("file.bin")).transient
    with serve("rclone", tmp_path / "s3") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        assert open_store(f"s3://bucket/{PREFIX}").get("file.bin") == content


# ---------------------------------------------------------------------------------------------------------------------
# faults that no real server makes when asked to


class FaultyS3(ThreadingHTTPServer):
    """Answers the first `failures` requests with an S3 error, and later ones properly; checks no signature.

    Args:
        status: Of the error.
        code: Of the error, as in its XML.
        failures: How many requests get it.
        cut: Bytes after which the body of a proper answer breaks off.
        silent: Whether nothing comes after them and the connection stays open.
    """

    daemon_threads = False  # so that closing waits for every reply to end

    def __init__(
        self,
        status: int = 503,
        code: str = "SlowDown",
        failures: int = 0,
        *,
        cut: int | None = None,
        silent: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _FaultyHandler)
        self.error = (status, f"<Error><Code>{code}</Code><Message>As told</Message></Error>".encode())
        self.failures = failures
        self.cut = cut
        self.silent = silent
        self.requests: list[tuple[str, bytes]] = []
        self.closing = threading.Event()


class _FaultyHandler(BaseHTTPRequestHandler):
    server: FaultyS3
    protocol_version = "HTTP/1.1"  # boto3 asks before it sends a body, and waits a second for an HTTP/1.0 server

    def do_PUT(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.server.requests.append((self.command, body))
        failed = len(self.server.requests) <= self.server.failures
        status, content = self.server.error if failed else (200, b"" if self.command == "PUT" else b"0123456789")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content if failed else content[: self.server.cut])
        self.wfile.flush()
        if self.server.silent:
            self.server.closing.wait()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Say nothing: tests read `requests`."""


@contextmanager
def running(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Run a faulty server, with the environment set for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("method", ["put", "get"])
def test_one_attempt_asks_an_overloaded_store_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(FaultyS3(failures=1), monkeypatch) as server:
        error = error_of(lambda: ACTIONS[method](open_store("s3://bucket", attempts=1)))
    assert len(server.requests) == 1
    assert error.transient
    assert "SlowDown (HTTP 503); try again" in str(error)


def test_three_attempts_ask_an_overloaded_store_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(FaultyS3(failures=100), monkeypatch) as server:
        error = error_of(lambda: ACTIONS["get"](open_store("s3://bucket", attempts=3)))
    assert len(server.requests) == 3
    assert error.transient


def test_the_third_attempt_sends_the_whole_file_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(FaultyS3(failures=2), monkeypatch) as server:
        ACTIONS["put"](open_store("s3://bucket", attempts=3))
    assert server.requests == [("PUT", b"content")] * 3


@pytest.mark.parametrize(
    ("status", "code", "transient"),
    [
        (500, "InternalError", True),
        (503, "ServiceUnavailable", True),
        (429, "TooManyRequests", True),
        (400, "RequestTimeout", True),
        (400, "BadDigest", False),
        (403, "AccessDenied", False),
        (404, "NoSuchKey", False),
    ],
)
def test_overload_is_transient_and_a_refusal_is_not(
    status: int, code: str, transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(FaultyS3(status, code, failures=1), monkeypatch):
        error = error_of(lambda: ACTIONS["get"](open_store("s3://bucket")))
    assert error.transient is transient
    assert f"{code} (HTTP {status})" in str(error)


@pytest.mark.parametrize("cut", [0, 4])
def test_a_body_that_breaks_off_is_a_transient_error_and_never_a_short_file(
    cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(FaultyS3(cut=cut), monkeypatch):
        assert error_of(lambda: open_store("s3://bucket").get("key")).transient


def test_a_store_that_falls_silent_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_bp.store.s3._READ_SECONDS", 0.2)
    with running(FaultyS3(cut=4, silent=True), monkeypatch):
        assert error_of(lambda: open_store("s3://bucket").get("key")).transient


# ---------------------------------------------------------------------------------------------------------------------
# a directory


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
@pytest.mark.parametrize("action", [ACTIONS["put"], ACTIONS["check_writable"]], ids=["put", "check_writable"])
def test_a_place_that_cannot_be_written_to_is_named(place: str, action: Callable[[Store], object]) -> None:
    Path("a-file").write_bytes(b"in the way")
    error = error_of(lambda: action(open_store(place)))
    assert str(error).startswith(f"cannot write {Path(place).absolute()}")
    assert "--artifacts" in str(error)
    assert not error.transient
    assert Path("a-file").read_bytes() == b"in the way"


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: both end a write in the middle."""
    open_store("place").put("file.bin", local_file(b"old"))
    local_file(bytes(100_000))
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from mnist_bp.errors import StoreError\n"
        "from mnist_bp.store import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    open_store(sys.argv[1]).put('file.bin', Path(sys.argv[2]))\n"
        "except StoreError as exc:\n"
        "    print(exc)\n"
    )
    other = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path / "place"), str(tmp_path / "to-upload")],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert other.stderr == ""
    (line,) = other.stdout.splitlines()
    assert line.startswith(f"cannot write {tmp_path / 'place' / 'file.bin'}: ")
    assert [path.name for path in Path("place").iterdir()] == ["file.bin"]
    assert open_store("place").get("file.bin") == b"old"


# ---------------------------------------------------------------------------------------------------------------------
# addresses


def refused(address: str) -> str:
    """Return the one line that refuses to open an address; a configuration refuses it as well, and as discreetly."""
    with pytest.raises(ConfigError) as caught:
        open_store(address)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "s3://bucket/prefix" in message
    with pytest.raises(ValidationError) as by_config:
        RunConfig(artifacts=address)
    assert "hunter2" not in str(by_config.value)
    return message


@pytest.mark.parametrize(
    "address",
    [
        "gs://bucket/prefix",
        "https://host/path",
        "S4://bucket",
        "s3://",
        "s3:///prefix",
        "s3://no bucket!/prefix",
        "file://host/path",
        "s3:/bucket/x",
    ],
)
def test_an_address_that_names_no_place_is_refused(address: str) -> None:
    assert repr(address) in refused(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAEXAMPLE:hunter2@bucket/prefix",
        "s3://hunter2@bucket",
        "s3://AKIAEXAMPLE:hunter2@",
        "https://AKIAEXAMPLE:hunter2@host/prefix",
        "s3://AKIAEXAMPLE:base64/of/hunter2@bucket/prefix",  # every second AWS secret holds a slash
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    message = refused(address)
    assert "AWS_*" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("s3://bucket", "s3://bucket/key"),
        ("s3://bucket/", "s3://bucket/key"),
        ("s3://bucket/a/prefix/", "s3://bucket/a/prefix/key"),
        ("s3://bucket/who@where", "s3://bucket/who@where/key"),
        ("s3://bucket/run#1?x", "s3://bucket/run#1?x/key"),
        ("file:///with%20a%20space/50%25", "/with a space/50%/key"),
        ("/with%20no/meaning", "/with%20no/meaning/key"),
        ("/a#b?c", "/a#b?c/key"),
    ],
)
def test_an_address_is_taken_as_it_is_written(address: str, uri: str) -> None:
    assert RunConfig(artifacts=address).artifacts == address
    assert open_store(address).uri("key") == uri


def test_a_file_uri_with_an_escaped_space_is_the_directory_with_the_space(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    open_store(place.as_uri()).put("file.txt", local_file(b"content"))
    assert "%20" in place.as_uri()
    assert (place / "file.txt").read_bytes() == b"content"


def test_a_relative_directory_stays_where_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("place")
    store.put("file.txt", local_file(b"content"))
    monkeypatch.chdir(tmp_path.parent)
    assert isinstance(store, LocalStore)
    assert store.uri("file.txt") == str(tmp_path / "place" / "file.txt")
    assert store.get("file.txt") == b"content"
