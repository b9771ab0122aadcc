"""A bucket behind a network that fails: nothing is lost, nothing damaged is believed, and an end is told as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from mnist_bp.errors import ConflictError
from mnist_bp.registry.gc import collect
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import sha256_of_bytes
from mnist_bp.storage.interface import Store
from tests.support.fault_proxy import (
    CUT_SHORT,
    LOST_REPLY,
    QUICK_FAULTS,
    RESET,
    SLOW_DOWN,
    STALL,
    TRUNCATED,
    Fault,
    FaultProxy,
    at_random,
)
from tests.support.s3_servers import S3Server
from tests.support.store_files import error_of, put

PREFIX = "some"
ROUNDS = 200

each_quick_fault = pytest.mark.parametrize("fault", QUICK_FAULTS, ids=lambda fault: fault.name)


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What stands between the store and its server; waits before another attempt are short."""
    monkeypatch.setattr("mnist_bp.storage.retries.FIRST_WAIT", 0.002)
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, s3_bucket: str) -> Store:
    return open_store(f"s3://{s3_bucket}/{PREFIX}")


@pytest.fixture
def stored(s3_admin: Any, s3_bucket: str) -> Callable[[str], bytes]:
    """Reads an object past the proxy."""

    def read(key: str) -> bytes:
        content: bytes = s3_admin.get_object(Bucket=s3_bucket, Key=f"{PREFIX}/{key}")["Body"].read()
        return content

    return read


def test_one_request_in_five_fails_and_200_puts_and_gets_succeed(
    store: Store, proxy: FaultProxy, stored: Callable[[str], bytes]
) -> None:
    contents = {f"file-{number:03}": os.urandom(1 + 97 * number) for number in range(ROUNDS)}
    proxy.faults = at_random(0.2, seed=1)

    def there_and_back(key: str) -> None:
        sha256 = sha256_of_bytes(contents[key])
        store.put(key, contents[key], sha256)
        assert store.get(key, sha256) == contents[key]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(there_and_back, contents))
    assert len(proxy.happened()) > ROUNDS / 2
    assert set(proxy.happened()) == set(QUICK_FAULTS)
    assert all(stored(key) == content for key, content in contents.items())


@each_quick_fault
def test_a_fault_at_any_request_of_a_put_is_got_over(
    store: Store, proxy: FaultProxy, stored: Callable[[str], bytes], fault: Fault
) -> None:
    """The reply to a put that went through may be the one that is lost; its own bytes are no conflict then."""
    for number in range(4):
        proxy.faults = iter([*repeat(None, number), fault])
        assert put(store, f"key-{number}", b"content")
        proxy.faults = iter(())
        assert stored(f"key-{number}") == b"content"
        with pytest.raises(ConflictError):
            put(store, f"key-{number}", b"another")


@each_quick_fault
def test_more_faults_than_are_tried_again_are_an_error_that_says_so(
    store: Store, proxy: FaultProxy, fault: Fault
) -> None:
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
def test_half_a_body_is_not_taken_for_the_whole(store: Store, proxy: FaultProxy, fault: Fault) -> None:
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


def test_a_stream_that_breaks_off_says_so_and_can_be_gone_on_with(store: Store, proxy: FaultProxy) -> None:
    content = os.urandom(1_000_000)
    put(store, "key", content)
    proxy.faults = iter([TRUNCATED])
    chunks: list[bytes] = []
    assert error_of(lambda: chunks.extend(store.stream("key"))).transient
    received = b"".join(chunks)
    assert content.startswith(received)
    assert len(received) < len(content)
    assert received + b"".join(store.stream("key", len(received))) == content


def test_silence_is_waited_for_only_so_long(store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "key", b"content")
    monkeypatch.setattr("mnist_bp.storage.s3_client._READ_SECONDS", 0.3)
    impatient = open_store(store.uri("").rstrip("/"))
    proxy.faults = iter([STALL])
    assert impatient.get("key") == b"content"
    proxy.faults = iter([STALL])
    assert impatient.read("nothing there") is None  # S3 says so in a body, too
    assert proxy.happened() == [STALL, STALL]


def test_a_file_of_many_parts_gets_over_faults_and_leaves_no_parts(
    store: Store,
    proxy: FaultProxy,
    stored: Callable[[str], bytes],
    s3_admin: Any,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnist_bp.storage.s3_uploads.PART_BYTES", 5 << 20)
    content = os.urandom(12 << 20)
    proxy.faults = at_random(0.3, seed=3, faults=(SLOW_DOWN, RESET))
    put(store, "big", content)
    assert proxy.happened()
    assert stored("big") == content
    found = s3_admin.list_multipart_uploads(Bucket=s3_bucket, Prefix=f"{PREFIX}/big")
    assert found.get("Uploads", []) == []


def test_an_upload_whose_beginning_was_never_answered_is_taken_by_gc(
    store: Store,
    proxy: FaultProxy,
    stored: Callable[[str], bytes],
    s3_server: S3Server,
    s3_admin: Any,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Nobody knows its id; it is begun anew, and the first one stays, without a part."""
    if s3_server.name == "minio":
        pytest.skip("MinIO lists unfinished uploads of one key only, and removes them itself after a day")
    monkeypatch.setattr("mnist_bp.storage.s3_uploads.PART_BYTES", 5 << 20)
    content = os.urandom(6 << 20)
    proxy.only, proxy.faults = "POST", iter([LOST_REPLY])
    put(store, "big", content)
    assert proxy.happened() == [LOST_REPLY]
    (left,) = s3_admin.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]

    def collected(hours: int) -> tuple[str, ...]:
        now = datetime.now(UTC) + timedelta(hours=hours)
        return collect(store, tmp_path / "data", RetentionPolicy(1, 1, timedelta(hours=1)), now=now).leftovers

    if s3_server.name != "moto":  # which says of every upload that it was begun in 2010
        assert collected(hours=0) == ()
    assert collected(hours=2) == (f"{store.uri('big')} (upload {left['UploadId']})",)
    assert s3_admin.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []
    assert stored("big") == content


@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
@pytest.mark.parametrize("fault", [SLOW_DOWN, RESET, LOST_REPLY], ids=lambda fault: fault.name)
def test_a_swap_whose_reply_is_lost_is_not_read_as_lost(
    store: Store, proxy: FaultProxy, fault: Fault, first: bool
) -> None:
    """It is made once, and what came of it is unknown until it is read."""
    if not first:
        assert store.compare_and_swap("pointer", b"before", None) == "won"
    found = store.read("pointer")
    expected = None if found is None else found.version
    proxy.faults = iter([fault])
    before = len(proxy.requests)
    assert store.compare_and_swap("pointer", b"mine", expected) == "unknown"
    assert len(proxy.requests) == before + 1
    found = store.read("pointer")
    there = None if found is None else found.content
    assert there == (b"mine" if fault.forwarded else None if first else b"before")


@pytest.mark.parametrize("hours", [-1, 2])
def test_a_clock_that_is_wrong_is_told_with_by_how_much(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto does not look at the time of a signature")
    if s3_server.name == "rclone" and hours < 0:
        pytest.skip("rclone calls an old signature AccessDenied")
    wrong = datetime.now(UTC) + timedelta(hours=hours)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: wrong.replace(tzinfo=None))
    monkeypatch.setattr("mnist_bp.storage.s3_errors.datetime", Mock(now=lambda _: wrong))
    message = str(error_of(lambda: put(open_store(f"s3://{s3_bucket}"), "key", b"content")))
    assert "RequestTimeTooSkewed" in message
    assert f"{abs(hours)}:00:0" in message or f"{abs(hours) - 1}:59:5" in message
    assert ("ahead of" if hours > 0 else "behind") in message
    assert "clock" in message
