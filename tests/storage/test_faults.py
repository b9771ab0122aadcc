"""A bucket behind a network that fails: nothing is lost, nothing damaged is accepted, and errors are reported."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.cli.main import main
from mnist_bp.errors import ConflictError
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.fault_proxy import (
    CUT_SHORT,
    LOST_REPLY,
    NOT_IMPLEMENTED,
    QUICK_FAULTS,
    RESET,
    STALL,
    TRUNCATED,
    Fault,
    FaultProxy,
    at_random,
)
from tests.support.published_runs import promote, publish
from tests.support.s3_servers import S3Server, few_servers
from tests.support.store_files import error_of, local_file, put
from tests.support.waiting import under_load

pytestmark = pytest.mark.parametrize("s3_server", few_servers(), indirect=True)

PREFIX = "some"
FILES = 200

each_quick_fault = pytest.mark.parametrize("fault", QUICK_FAULTS, ids=lambda fault: fault.name)


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy between the store and its server; the waits between attempts are short."""
    monkeypatch.setattr("mnist_bp.storage.retries.FIRST_WAIT_S", 0.002)
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, s3_bucket: str) -> Store:
    return open_store(f"s3://{s3_bucket}/{PREFIX}")


@pytest.fixture
def stored(s3_admin: Any, s3_bucket: str) -> Callable[[str], bytes]:
    """Reads an object without the proxy."""

    def read(key: str) -> bytes:
        content: bytes = s3_admin.get_object(Bucket=s3_bucket, Key=f"{PREFIX}/{key}")["Body"].read()
        return content

    return read


def test_one_request_in_five_fails_and_200_puts_and_gets_succeed(
    store: Store, proxy: FaultProxy, stored: Callable[[str], bytes]
) -> None:
    contents = {f"file-{number:03}": os.urandom(1 + 97 * number) for number in range(FILES)}
    proxy.faults = at_random(0.2, seed=1)

    def there_and_back(key: str) -> None:
        sha256 = sha256_of_bytes(contents[key])
        store.put(key, contents[key], sha256)
        assert store.get(key, sha256) == contents[key]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(there_and_back, contents))
    assert len(proxy.happened()) > FILES / 2
    assert set(proxy.happened()) == set(QUICK_FAULTS)
    assert all(stored(key) == content for key, content in contents.items())


@each_quick_fault
def test_a_put_succeeds_after_a_fault_at_any_of_its_requests(
    store: Store, proxy: FaultProxy, stored: Callable[[str], bytes], fault: Fault
) -> None:
    """If the reply to a successful put is lost, the next attempt finds the same bytes, which is no conflict."""
    for number in range(4):
        proxy.faults = iter([*repeat(None, number), fault])
        put(store, f"key-{number}", b"content")
        proxy.faults = iter(())
        assert stored(f"key-{number}") == b"content"
        with pytest.raises(ConflictError):
            put(store, f"key-{number}", b"another")


@pytest.mark.parametrize("fault", [RESET, LOST_REPLY], ids=lambda fault: fault.name)
def test_a_put_that_another_process_overtakes_between_its_attempts_is_a_conflict(
    store: Store,
    proxy: FaultProxy,
    stored: Callable[[str], bytes],
    s3_admin: Any,
    s3_bucket: str,
    fault: Fault,
) -> None:
    def overtaken() -> Iterator[Fault | None]:
        yield None  # the key is read, and is free
        s3_admin.put_object(Bucket=s3_bucket, Key=f"{PREFIX}/key", Body=b"another's")
        yield fault

    proxy.faults = overtaken()
    with pytest.raises(ConflictError):
        put(store, "key", b"content")
    assert stored("key") == b"another's"
    assert proxy.happened() == [fault]


def test_a_store_that_rejects_conditions_takes_files_and_overwrites_none(
    store: Store, proxy: FaultProxy, stored: Callable[[str], bytes]
) -> None:
    proxy.faults = iter([None, NOT_IMPLEMENTED])
    put(store, "key", b"content")
    assert stored("key") == b"content"
    assert proxy.happened() == [NOT_IMPLEMENTED]
    with pytest.raises(ConflictError):
        put(store, "key", b"another")


def test_a_file_beyond_5_gib_is_refused_before_anything_is_sent(
    store: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate((5 << 30) + 1)  # sparse: it takes no space
    error = error_of(lambda: store.put("huge", path, "0" * 64))
    assert f"cannot write {store.uri('huge')}: {path} has 5,368,709,121 bytes" in str(error)
    assert "expected at most 5,368,709,120 (5 GiB)" in str(error)
    assert not error.transient
    assert proxy.requests == []
    monkeypatch.setattr("mnist_bp.storage.s3.MAX_FILE_SIZE", 7)
    content = b"7 bytes"
    store.put("key", local_file(content), sha256_of_bytes(content))


@each_quick_fault
def test_an_error_states_the_number_of_failed_attempts(store: Store, proxy: FaultProxy, fault: Fault) -> None:
    put(store, "key", b"content")
    proxy.faults = repeat(fault)
    for action in (
        lambda: put(store, "other", b"content"),
        lambda: store.get("key"),
        lambda: list(store.list_entries()),
    ):
        error = error_of(action)
        assert error.transient
        assert "tried 10 times in " in str(error)
    proxy.faults = iter(())
    assert store.get("key") == b"content"


@pytest.mark.parametrize("fault", [TRUNCATED, CUT_SHORT], ids=lambda fault: fault.name)
def test_half_a_body_is_not_accepted_as_the_whole(store: Store, proxy: FaultProxy, fault: Fault) -> None:
    content = os.urandom(100_000)
    put(store, "key", content)
    proxy.faults = iter([fault, fault])
    assert store.get("key") == content
    proxy.faults = iter([fault, fault])
    assert [entry.key for entry in store.list_entries()] == ["key"]
    assert proxy.happened() == [fault] * 4
    proxy.faults = repeat(fault)
    for action in (lambda: store.get("key"), lambda: list(store.list_entries())):
        assert "tried 10 times in " in str(error_of(action))


def test_an_interrupted_stream_is_an_error_and_can_be_continued(store: Store, proxy: FaultProxy) -> None:
    content = os.urandom(1_000_000)
    put(store, "key", content)
    proxy.faults = iter([TRUNCATED])
    chunks: list[bytes] = []
    assert error_of(lambda: chunks.extend(store.stream("key"))).transient
    received = b"".join(chunks)
    assert content.startswith(received)
    assert len(received) < len(content)
    assert received + b"".join(store.stream("key", len(received))) == content


def test_a_silent_server_is_waited_for_until_the_time_out(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "key", b"content")
    monkeypatch.setattr("mnist_bp.storage.s3_client.READ_TIMEOUT_S", under_load(0.3))
    impatient = open_store(store.uri("").rstrip("/"))
    proxy.faults = iter([STALL])
    assert impatient.get("key") == b"content"
    proxy.faults = iter([STALL])
    assert impatient.read("missing") is None  # S3 reports this in a body, too
    assert proxy.happened() == [STALL, STALL]


@pytest.mark.parametrize("hours", [-1, 2])
def test_the_error_for_a_wrong_clock_says_to_set_it(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto ignores the time of a signature")
    wrong = datetime.now(UTC) + timedelta(hours=hours)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: wrong.replace(tzinfo=None))
    error = error_of(lambda: put(open_store(f"s3://{s3_bucket}"), "key", b"content"))
    assert re.search(r"RequestTimeTooSkewed \(HTTP 403\).*; this machine's clock is wrong: set it", str(error))
    assert not error.transient


def test_gc_needs_no_right_beyond_reading_writing_listing_and_deleting_objects(
    store: Store, proxy: FaultProxy, s3_bucket: str
) -> None:
    publish(store, 1)
    promote(store, publish(store, 2))
    assert main(["gc", "--keep", "0", "--grace-hours", "0", "--artifacts", store.uri("").rstrip("/")]) == 0
    assert "DELETE" in [method for method, _, _ in proxy.requests]
    assert not [path for _, path, _ in proxy.requests if "uploads" in path]  # ListBucketMultipartUploads
