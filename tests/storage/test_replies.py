"""S3 replies that drip, that are too large, that are not whole, and what a store says in an error."""

from __future__ import annotations

import logging
import os
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, SSLError
from botocore.loaders import JSONFileLoader

from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.storage import retries
from mnist_bp.storage.retries import RetryPolicy
from mnist_bp.storage.s3 import S3Store
from mnist_bp.storage.s3_errors import raising_store_errors
from tests.support.raw_http import RawHttp, Reply, drip, http, whole
from tests.support.s3_servers import free_endpoint
from tests.support.store_files import error_of, put

SECRET = "canary-9f3c/and+the=rest"
LIST_HEAD = b'<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

ACTIONS: dict[str, Callable[[S3Store], object]] = {
    "get": lambda store: store.get("key"),
    "put": lambda store: put(store, "key", b"content"),
    "list": lambda store: list(store.list_entries()),
    "stream": lambda store: list(store.stream("key")),
}
DRIPS = {
    "headers": drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    "many headers": drip(b"HTTP/1.1 200 OK\r\n", b"X-Filler: a\r\n"),
    "100 Continue": drip(b"", CONTINUE),
    "body": drip(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 100000\r\n\r\n', b"a"),  # 1.5 s at the lowest speed
}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Reply], RawHttp]]:
    """Return a function that starts a server of one reply, the store of the environment."""
    servers: list[RawHttp] = []

    def start(reply: Reply) -> RawHttp:
        servers.append(RawHttp(reply).__enter__())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", servers[-1].endpoint)
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def store_of(attempts: int = 1, attempt_seconds: float = 30) -> S3Store:
    return S3Store("bucket", "prefix", RetryPolicy(attempts, attempt_seconds=attempt_seconds))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", DRIPS)
def test_a_reply_that_drips_is_abandoned_in_time_as_transient(
    kind: str, action: str, serve: Callable[[Reply], RawHttp]
) -> None:
    if (kind, action) == ("body", "put"):
        pytest.skip("the size of the stored object differs, so its body is not read")
    serve(DRIPS[kind])
    begin = time.monotonic()
    error = error_of(lambda: ACTIONS[action](store_of(attempt_seconds=1)))
    assert time.monotonic() - begin < 60  # the reply has no end
    assert error.transient


@pytest.mark.parametrize("action", ACTIONS)
def test_a_program_that_finds_credentials_and_hangs_is_abandoned_in_time(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Reply], RawHttp]
) -> None:
    serve(http("200 OK", b""))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = timeout 20 cat {pipe}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    error = error_of(lambda: ACTIONS[action](store_of(attempt_seconds=1)))
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # ends the program
    assert "no complete reply within 1 s" in str(error)
    assert error.transient


def test_clients_share_one_parsed_api_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Reply], RawHttp]
) -> None:
    serve(http("200 OK", b"content", ETag='"a"'))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))  # no client of this process has been opened with it
    parsed: list[str] = []
    load = JSONFileLoader.load_file

    def counted(self: JSONFileLoader, path: str) -> object:
        found = load(self, path)
        if found is not None:
            parsed.append(path)
        return found

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    for _ in range(2):
        assert store_of().get("key") == b"content"
    assert len([path for path in parsed if path.endswith("service-2")]) == 1


def test_an_object_larger_than_recorded_or_than_any_document_is_not_read(serve: Callable[[Reply], RawHttp]) -> None:
    serve(drip(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 8589934592\r\n\r\n', b"a"))
    store = store_of()
    for read in (store.get, store.read):
        with pytest.raises(DataFormatError, match="has 8,589,934,592 bytes, expected at most"):
            read("key")
    with pytest.raises(ChecksumError, match="it has 8,589,934,592 bytes, expected 7"):
        store.get("key", "0" * 64, 7)


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>again</NextContinuationToken>"])
def test_a_listing_that_goes_on_without_saying_where_is_one_clear_error(
    token: str, serve: Callable[[Reply], RawHttp]
) -> None:
    serve(http("200 OK", LIST_HEAD + token.encode() + b"</ListBucketResult>"))
    error = error_of(lambda: list(store_of().list_entries()))
    assert "the store says that its listing goes on" in str(error)
    assert not error.transient


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted", "Conflict", "TransactionConflict"])
def test_a_conflict_is_tried_again_whatever_a_store_calls_it(code: str, serve: Callable[[Reply], RawHttp]) -> None:
    server = serve(http("409 Conflict", f"<Error><Code>{code}</Code><Message>busy</Message></Error>".encode()))
    error = error_of(lambda: store_of(attempts=3).create("key", b"content"))
    assert error.transient
    assert f"{code} (HTTP 409): busy" in str(error)
    assert len(server.requests) == 3


def test_a_conflict_without_a_body_is_tried_again(serve: Callable[[Reply], RawHttp]) -> None:
    server = serve(http("409 Conflict", b""))
    assert error_of(lambda: store_of(attempts=3).create("key", b"content")).transient
    assert len(server.requests) == 3


def test_the_first_line_of_the_stores_own_message_is_shown_without_secrets_and_control_characters(
    serve: Callable[[Reply], RawHttp],
) -> None:
    token = "A" * 60  # shorter than what is shown of a message
    message = f"quota of bucket exceeded\t{SECRET} {token} https://user:{SECRET}@host/?X-Amz-Signature=1\nmore"
    serve(http("403 Forbidden", f"<Error><Code>Quota</Code><Message>{message}</Message></Error>".encode()))
    error = str(error_of(lambda: store_of().get("key")))
    assert "Quota (HTTP 403): quota of bucket exceeded" in error
    for hidden in ("canary", token, "X-Amz-Signature", "more", "\t"):
        assert hidden not in error


def test_a_name_that_no_bucket_can_have_is_answered_with_the_address() -> None:
    reply = {"Error": {"Code": "InvalidBucketName"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    expected = r"InvalidBucketName \(HTTP 400\).*; correct the address$"
    with pytest.raises(StoreError, match=expected), raising_store_errors("cannot list s3://b/"):
        raise ClientError(reply, "ListObjectsV2")


def test_a_control_character_of_a_store_reaches_no_message(serve: Callable[[Reply], RawHttp]) -> None:
    serve(whole(b"HTTP/1.1 404 \x1b[31mred\r\nContent-Type: \x1b]0;title\x07\r\nContent-Length: 0\r\n\r\n"))
    error = str(error_of(lambda: store_of().get("key")))
    assert "\x1b" not in error
    assert "\x07" not in error


def test_a_dead_store_is_reported_within_5_seconds_and_without_a_query_string(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", free_endpoint())
    monkeypatch.setattr(retries, "NOTICE_S", 0.2)
    monkeypatch.setattr(retries, "NOTICE_INTERVAL_S", 0)  # another test of this process may have caused one
    policy = RetryPolicy(attempts=1_000, seconds=3)
    with caplog.at_level(logging.WARNING):
        error = error_of(lambda: list(S3Store("bucket", "prefix", policy).list_entries()))
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith("waiting     for s3://bucket/prefix/: ")
    for text in (line, str(error)):
        assert "list-type" not in text
        assert "?" not in text


def test_a_notice_comes_before_5_seconds() -> None:
    assert retries.NOTICE_S < 5


def test_a_file_without_certificates_is_named_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").write_text("no certificate\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://127.0.0.1:1")
    for place, cause in [
        ("/no/such/file.pem", "no such file or directory"),
        (str(tmp_path / "empty.pem"), "no certificate in it"),
        (str(tmp_path), "is a directory"),
    ]:
        monkeypatch.setenv("AWS_CA_BUNDLE", place)
        error = error_of(lambda: store_of(attempts=10).get("key"))
        assert f"the certificates in {place} cannot be read: {cause}; correct or unset AWS_CA_BUNDLE" in str(error)
        assert not error.transient


@pytest.mark.parametrize(
    "cause",
    [
        "hostname 'localhost' doesn't match '127.0.0.1'",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid",
    ],
)
def test_a_certificate_for_another_name_is_an_error_at_once_and_shows_no_query(cause: str) -> None:
    with pytest.raises(StoreError) as caught, raising_store_errors("cannot list s3://bucket/"):
        raise SSLError(endpoint_url="https://localhost/bucket?list-type=2", error=cause)
    assert "the certificate is for another name: start AWS_ENDPOINT_URL_S3 with a name" in str(caught.value)
    assert "list-type" not in str(caught.value)
    assert not caught.value.transient


def test_a_file_without_etag_is_read_if_its_reply_has_the_request_id_of_a_store(
    serve: Callable[[Reply], RawHttp],
) -> None:
    """As versitygw sends of what was copied into the directory that it serves, such as a restored log."""
    serve(http("200 OK", b"content", **{"x-amz-request-id": "54C9VYTS11C2H1XO", "Content-Type": "text/plain"}))
    assert store_of().get("key") == b"content"


@pytest.fixture
def proper(serve: Callable[[Reply], RawHttp]) -> RawHttp:
    return serve(http("200 OK", b"", ETag='"a"'))


def test_every_object_is_sent_with_its_md5_which_buckets_with_object_lock_require(proper: RawHttp) -> None:
    store_of().create("key", b"content")
    assert f"content-md5: {b64encode(md5(b'content').digest()).decode()}".lower() in proper.headers[0]


@pytest.mark.parametrize("chosen", [None, "when_supported"])
def test_the_users_choice_of_checksums_is_honoured(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch, proper: RawHttp
) -> None:
    if chosen is not None:
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", chosen)
    store_of().create("key", b"content")
    assert any(line.startswith("x-amz-checksum-") for line in proper.headers[0]) == (chosen is not None)


def test_the_choice_of_checksums_of_a_profile_is_honoured(
    monkeypatch: pytest.MonkeyPatch, proper: RawHttp, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nrequest_checksum_calculation = when_supported\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store_of().create("key", b"content")
    assert any(line.startswith("x-amz-checksum-") for line in proper.headers[0])


def test_the_addressing_style_of_the_aws_configuration_is_honoured(
    monkeypatch: pytest.MonkeyPatch, proper: RawHttp, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HTTP_PROXY", proper.endpoint)  # the name of the bucket's host is not looked up
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.test")
    store_of().create("key", b"content")
    assert proper.requests == ["PUT http://bucket.s3.example.test/prefix/key HTTP/1.1"]


def test_a_bucket_that_requires_encryption_headers_is_one_line_that_says_what_to_set(
    serve: Callable[[Reply], RawHttp],
) -> None:
    """S3 refuses a request without the headers that a bucket's policy requires like any other that is not allowed."""
    server = serve(http("403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"))
    error = error_of(lambda: store_of(attempts=3).check_writable())
    assert "cannot write to s3://bucket/prefix/: AccessDenied (HTTP 403): Access Denied; check the cred" in str(error)
    assert "if its policy requires encryption headers, set the bucket's default encryption" in str(error)
    assert "\n" not in str(error)
    assert not error.transient
    assert len(server.requests) == 1


def test_what_a_store_says_is_in_no_traceback(serve: Callable[[Reply], RawHttp]) -> None:
    """Prefect logs tracebacks, with the cause of an error."""
    serve(http("403 Forbidden", f"<Error><Code>Quota</Code><Message>{SECRET}</Message></Error>".encode()))
    error = error_of(lambda: store_of().get("key"))
    assert SECRET not in "".join(traceback.format_exception(error))


def test_a_session_token_is_in_no_log(
    serve: Callable[[Reply], RawHttp], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (None, "boto3", "botocore"):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    serve(http("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>"))
    error_of(lambda: store_of().get("key"))
    assert SECRET not in caplog.text


def test_a_profile_that_does_not_exist_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    assert "AWS_PROFILE 'nosuch' is not the name of a profile" in str(error_of(lambda: store_of().get("key")))


def test_a_server_that_closes_the_connection_may_expect_tls() -> None:
    with pytest.raises(StoreError, match="starts with https:// if the store uses TLS"), raising_store_errors("cannot"):
        raise ConnectionClosedError(endpoint_url="http://127.0.0.1:1")
