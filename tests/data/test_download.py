"""The download from a real HTTP server that misbehaves; the dataset is four small files of random bytes."""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mnist_bp.data.datasets import DATASETS, DatasetSpec, SourceFile
from mnist_bp.data.download import fetch_dataset, fetch_mnist_or_sample
from mnist_bp.data.mirrors import Limits
from mnist_bp.errors import UNPRINTABLE, ConfigError, DownloadError, StoreError
from mnist_bp.results.dataset import RawDataset
from tests.conftest import data_dir_of
from tests.support.bad_http import (
    ENDLESS,
    HTML,
    IGNORE_RANGE,
    BadHttp,
    Fault,
    Request,
    content_range,
    drip,
    drop,
    overclaim,
    redirect,
    stall,
    status,
    truncate,
)
from tests.support.raw_http import RawHttp, Send, http, whole
from tests.support.raw_http import drip as drip_bytes
from tests.support.senseless import STRANGE_FILES
from tests.support.waiting import HANG_S, under_load

IMAGES, LABELS, *_ = NAMES = ("train-images", "train-labels", "test-images", "test-labels")
SIZES = (300_000, 100, 20_000, 100)
CONTENTS = {name: random.Random(name).randbytes(size) for name, size in zip(NAMES, SIZES, strict=True)}
CONTENT = CONTENTS[IMAGES]
HALF = 150_000

MNIST_IMAGES = DATASETS["mnist"].files[0].name
PATIENT = Limits(connect=60, silence=60, total=120)
"""Of mirrors that reply, also on a machine with ten times the load."""
IMPATIENT = Limits(connect=60, silence=2, total=120)
"""Of a mirror that falls silent."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """A dataset named `tiny`, whose own mirror does not exist."""
    a, b, c, d = (SourceFile(name, "sha256", hashlib.sha256(CONTENTS[name]).hexdigest()) for name in NAMES)
    spec = DatasetSpec("tiny", (a, b, c, d), ("http://mirror.invalid/",), 10)
    monkeypatch.setitem(DATASETS, "tiny", spec)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return spec


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadHttp]:
    """The only mirror, unless a test sets others."""
    with BadHttp(CONTENTS) as server:
        monkeypatch.setenv("MNIST_BP_MIRRORS", server.url)
        yield server


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def closed_port() -> str:
    """An address on which no server listens."""
    with BadHttp({}) as server:
        return server.url


def fetch(data_dir: Path, limits: Limits = PATIENT) -> RawDataset:
    return fetch_dataset("tiny", data_dir, limits=limits)


def failure(data_dir: Path, limits: Limits = PATIENT) -> DownloadError:
    """Check that fetching fails with a one-line message, and return the error."""
    with pytest.raises(DownloadError) as caught:
        fetch(data_dir, limits)
    assert_one_line(str(caught.value))
    assert not path_of(data_dir, IMAGES).exists()
    return caught.value


def assert_one_line(message: str) -> None:
    assert len(message.splitlines()) == 1, message


def assert_complete(data_dir: Path) -> None:
    """Check that the dataset's directory holds the four right files and nothing else."""
    found = {path.name: path.read_bytes() for path in path_of(data_dir, "").iterdir() if path.name != ".lock"}
    assert found.keys() == CONTENTS.keys()
    assert found == CONTENTS


def path_of(data_dir: Path, name: str) -> Path:
    return data_dir / "raw" / "tiny" / name


def leave_partial(data_dir: Path, content: bytes) -> Path:
    """Write the partial file that an interrupted download leaves."""
    partial = path_of(data_dir, f"{IMAGES}.partial")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content)
    return partial


def requests_of(server: BadHttp, name: str) -> list[str | None]:
    """List the Range headers of the requests for one file."""
    return [request.range for request in server.requests if request.path == f"/{name}"]


# ---------------------------------------------------------------------------------------------- files on disk


def test_fetched_files_match_their_digests_and_no_partial_file_remains(data_dir: Path, server: BadHttp) -> None:
    raw = fetch(data_dir)
    assert (raw.name, raw.cache, raw.notice) == ("tiny", "miss", None)
    assert [(Path(file.path).read_bytes(), file.size) for file in raw.files] == [
        (content, len(content)) for content in CONTENTS.values()
    ]
    assert [file.sha256 for file in raw.files] == [hashlib.sha256(content).hexdigest() for content in CONTENTS.values()]
    assert_complete(data_dir)


def test_intact_files_are_not_fetched_again(data_dir: Path, server: BadHttp) -> None:
    first = fetch(data_dir)
    server.requests.clear()
    second = fetch(data_dir)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert first.files == second.files
    assert server.requests == []


@pytest.mark.parametrize("damage", ["one flipped bit", "cut short", "empty", "missing"])
def test_a_file_is_intact_only_if_its_digest_is_right(data_dir: Path, server: BadHttp, damage: str) -> None:
    fetch(data_dir)
    content = CONTENTS[LABELS]
    damaged = {"one flipped bit": content[:50] + bytes([content[50] ^ 1]) + content[51:], "cut short": content[:-1]}
    path_of(data_dir, LABELS).write_bytes(damaged.get(damage, b""))
    if damage == "missing":
        path_of(data_dir, LABELS).unlink()
    server.requests.clear()
    assert fetch(data_dir).cache == "miss"
    assert server.requests == [Request(f"/{LABELS}", None)]
    assert_complete(data_dir)


def test_progress_is_reported_up_to_the_size_of_every_file(data_dir: Path, server: BadHttp) -> None:
    leave_partial(data_dir, CONTENT[:HALF])
    reports: list[tuple[float, float | None, str]] = []
    fetch_dataset("tiny", data_dir, limits=PATIENT, on_progress=lambda *report: reports.append(report))
    for name, content in CONTENTS.items():
        counts = [count for count, _, reported in reports if reported == name]
        assert counts == sorted(counts)
        assert counts[-1] == len(content)
        assert {size for _, size, reported in reports if reported == name} == {len(content)}
    assert min(count for count, _, name in reports if name == IMAGES) > HALF  # the bytes already on disk count


def test_two_processes_in_one_directory_fetch_every_file_once(
    data_dir: Path, server: BadHttp, tiny: DatasetSpec
) -> None:
    server.faults[IMAGES] = [drip(0.001)]  # long enough for the other process to arrive
    processes = [start_fetch(tiny, data_dir) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=HANG_S) for process in processes] == [("miss\n", "")] * 2
    assert sorted(request.path for request in server.requests) == sorted(f"/{name}" for name in NAMES)
    assert_complete(data_dir)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_full_disk_is_one_clear_line_and_the_old_file_stays(
    data_dir: Path, server: BadHttp, tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    if scheme == "file":
        monkeypatch.setenv("MNIST_BP_MIRRORS", directory_mirror(data_dir.parent / "mirror"))
    old = path_of(data_dir, IMAGES)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"an older file, damaged")
    process = start_fetch(tiny, data_dir, largest_file=HALF)
    out, err = process.communicate("go\n", timeout=HANG_S)
    assert err == ""
    assert out.startswith("StoreError: cannot write "), out
    assert_one_line(out)
    assert f"{old}.partial: File too large; free space or choose another place (--data-dir" in out
    assert old.read_bytes() == b"an older file, damaged"


@pytest.mark.usefixtures("server")
def test_data_directory_that_is_a_file_is_one_clear_line(data_dir: Path) -> None:
    data_dir.write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot write .* is a file, expected a directory; choose") as caught:
        fetch(data_dir)
    assert_one_line(str(caught.value))


# ---------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("fault", [drop(after=HALF), stall(after=HALF)], ids=["dropped", "stalled"])
def test_interrupted_download_is_resumed_by_the_next_call(data_dir: Path, server: BadHttp, fault: Fault) -> None:
    server.faults[IMAGES] = [fault]
    assert failure(data_dir, IMPATIENT).transient
    assert path_of(data_dir, f"{IMAGES}.partial").read_bytes() == CONTENT[:HALF]
    fetch(data_dir)
    assert requests_of(server, IMAGES) == [None, f"bytes={HALF}-"]
    assert server.sent[IMAGES] == len(CONTENT)  # no byte twice
    assert_complete(data_dir)


def test_second_mirror_continues_where_the_first_was_interrupted(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", f"{server.url}one/ {server.url}two/")
    server.faults[IMAGES] = [drop(after=HALF)]
    fetch(data_dir)
    assert server.requests[:2] == [Request(f"/one/{IMAGES}", None), Request(f"/two/{IMAGES}", f"bytes={HALF}-")]
    assert server.sent[IMAGES] == len(CONTENT)
    assert_complete(data_dir)


def test_dropped_connection_is_transient_and_is_named_in_the_message(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [drop(after=HALF)]
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["interrupted"]
    assert error.transient
    assert error.reached
    assert "interrupted (" in str(error)


def test_silent_mirror_is_abandoned_in_time_as_transient(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [stall(after=HALF)]
    started = time.monotonic()
    error = failure(data_dir, IMPATIENT)
    assert time.monotonic() - started < under_load(6)
    assert [failure.kind for failure in error.failures] == ["interrupted"]
    assert "no data for 2 s" in str(error)


def test_slow_mirror_is_abandoned_after_the_total_time(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [drip(0.02)]  # 6 s for the whole file
    started = time.monotonic()
    error = failure(data_dir, Limits(connect=60, silence=60, total=0.5))
    assert time.monotonic() - started < under_load(3)
    assert [failure.kind for failure in error.failures] == ["interrupted"]
    assert "not finished after 0.5 s" in str(error)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: a\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
    ],
    ids=["a header", "headers", "100 Continue", "a body"],
)
def test_one_deadline_covers_headers_and_body_of_a_reply_that_drips(
    start: bytes, piece: bytes, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawHttp(drip_bytes(start, piece)) as server:
        monkeypatch.setenv("MNIST_BP_MIRRORS", server.endpoint)
        begin = time.monotonic()
        error = failure(data_dir, Limits(connect=60, silence=60, total=0.5))
        assert time.monotonic() - begin < 60  # the reply has no end
    assert error.transient
    assert "not finished after 0.5 s" in str(error)


def test_one_deadline_covers_all_redirects(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = http("302 Found", b"", Location="/again")

    def reply_late(send: Send, closing: threading.Event) -> None:
        closing.wait(0.1)
        again(send, closing)

    with RawHttp(reply_late) as server:
        monkeypatch.setenv("MNIST_BP_MIRRORS", server.endpoint)
        error = failure(data_dir, Limits(connect=60, silence=60, total=0.5))
        assert len(server.requests) < 20
    assert "not finished after 0.5 s" in str(error)


def test_the_total_time_covers_a_directory_too(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", directory_mirror(data_dir.parent / "mirror"))
    assert "not finished after 0 s" in str(failure(data_dir, Limits(total=0)))


def test_one_deadline_covers_the_server_that_a_redirect_names(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        RawHttp(drip_bytes(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a")) as other,
        RawHttp(http("302 Found", b"", Location=f"{other.endpoint}/file")) as server,
    ):
        monkeypatch.setenv("MNIST_BP_MIRRORS", server.endpoint)
        error = failure(data_dir, Limits(connect=60, silence=60, total=0.5))
        assert other.requests
    assert "not finished after 0.5 s" in str(error)


def test_escape_sequences_of_a_mirror_reach_no_message(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: \x9b31mred\r\nContent-Length: 4\r\n\r\nnope"
    with RawHttp(whole(reply)) as server:
        monkeypatch.setenv("MNIST_BP_MIRRORS", server.endpoint)
        message = str(failure(data_dir))
    assert "delivered 4 bytes of \\x9b31mred" in message
    assert not UNPRINTABLE.search(message)


def test_a_missing_file_of_certificates_is_named_by_its_variable(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    error = failure(data_dir)
    assert "SSL_CERT_FILE is /no/such/file.pem, which does not exist" in str(error)
    assert not error.transient


@pytest.mark.parametrize("strange", STRANGE_FILES)
@pytest.mark.parametrize("suffix", ["", ".partial"])
def test_a_strange_file_in_place_of_a_download_is_replaced_and_not_waited_for(
    suffix: str, strange: str, data_dir: Path, server: BadHttp
) -> None:
    path = data_dir / "raw" / "tiny" / f"{IMAGES}{suffix}"
    path.parent.mkdir(parents=True)
    path.touch()
    STRANGE_FILES[strange](path)
    fetch(data_dir)
    assert path.with_name(IMAGES).read_bytes() == CONTENT


def test_complete_body_with_a_longer_content_length_is_accepted(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [overclaim(len(CONTENT) + 1_000)]
    fetch(data_dir)
    assert requests_of(server, IMAGES) == [None]
    assert_complete(data_dir)


# ---------------------------------------------------------------------------------------------- partial files


def test_complete_partial_file_is_accepted_without_sending_a_byte(data_dir: Path, server: BadHttp) -> None:
    leave_partial(data_dir, CONTENT)
    fetch(data_dir)
    assert requests_of(server, IMAGES) == [f"bytes={len(CONTENT)}-"]
    assert server.sent[IMAGES] == 0
    assert_complete(data_dir)


@pytest.mark.parametrize("size", [HALF, len(CONTENT), len(CONTENT) + 50], ids=["shorter", "as long", "longer"])
def test_corrupt_partial_file_is_discarded_and_requested_whole_from_the_same_mirror(
    data_dir: Path, server: BadHttp, size: int
) -> None:
    leave_partial(data_dir, random.Random("stale").randbytes(size))
    fetch(data_dir)
    assert requests_of(server, IMAGES) == [f"bytes={size}-", None]
    assert_complete(data_dir)


def test_mirror_that_ignores_range_requests_sends_the_file_from_the_start(data_dir: Path, server: BadHttp) -> None:
    leave_partial(data_dir, CONTENT[:HALF])
    server.faults[IMAGES] = [IGNORE_RANGE]
    fetch(data_dir)
    assert requests_of(server, IMAGES) == [f"bytes={HALF}-"]
    assert_complete(data_dir)


@pytest.mark.parametrize(
    "fault", [content_range(f"bytes {HALF + 1}-{len(CONTENT) - 1}/{len(CONTENT)}"), status(403)], ids=["206", "403"]
)
def test_mirror_that_cannot_continue_is_asked_for_the_whole_file(fault: Fault, data_dir: Path, server: BadHttp) -> None:
    leave_partial(data_dir, CONTENT[:HALF])
    server.faults[IMAGES] = [fault]
    fetch(data_dir)
    assert requests_of(server, IMAGES) == [f"bytes={HALF}-", None]
    assert_complete(data_dir)


def test_partial_file_is_kept_if_a_mirror_does_not_have_the_file(data_dir: Path, server: BadHttp) -> None:
    partial = leave_partial(data_dir, CONTENT[:HALF])
    server.faults[IMAGES] = [status(404), status(404)]
    failure(data_dir)
    assert partial.read_bytes() == CONTENT[:HALF]


def test_partial_file_is_continued_from_an_s3_mirror(
    data_dir: Path, s3_bucket: str, s3_admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in CONTENTS.items():
        s3_admin.put_object(Bucket=s3_bucket, Key=f"mirror/{name}", Body=content)
    monkeypatch.setenv("MNIST_BP_MIRRORS", f"s3://{s3_bucket}/mirror")
    leave_partial(data_dir, CONTENT[:HALF])
    fetch(data_dir)
    assert_complete(data_dir)


def test_s3_mirror_without_the_file_is_listed_with_the_reason(
    data_dir: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", f"s3://{s3_bucket}/nothing")
    error = failure(data_dir)
    assert "NoSuchKey" in str(error)
    assert not error.transient


def test_password_in_a_mirror_is_in_no_message_and_in_no_log(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")
    server.faults[IMAGES] = [status(404)]
    monkeypatch.setenv("MNIST_BP_MIRRORS", server.url.replace("//", "//user:hunter2@"))
    assert "hunter2" not in str(failure(data_dir)) + caplog.text


# ---------------------------------------------------------------------------------------------- wrong responses


def test_truncated_body_is_corrupt_and_not_transient(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [truncate(to=HALF)]
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["corrupt"]
    assert not error.transient
    assert "delivered 150,000 bytes" in str(error)
    assert not path_of(data_dir, f"{IMAGES}.partial").exists()  # otherwise the next call would continue it


def test_login_page_is_refused_with_both_digests_and_its_content_type(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [HTML]
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["corrupt"]
    assert not error.transient
    assert not error.reached
    assert "text/html" in str(error)
    for body in (HTML.body, CONTENT):
        assert body is not None
        assert hashlib.sha256(body).hexdigest() in str(error)


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_overloaded_mirror_is_transient(data_dir: Path, server: BadHttp, code: int) -> None:
    server.faults[IMAGES] = [status(code)]
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["interrupted"]
    assert error.transient
    assert error.reached
    assert f"HTTP {code}" in str(error)


@pytest.mark.parametrize("code", [404, 403])
def test_definite_refusal_is_not_transient(data_dir: Path, server: BadHttp, code: int) -> None:
    server.faults[IMAGES] = [status(code)]
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["refused"]
    assert not error.transient
    assert not error.reached
    assert f"HTTP {code}" in str(error)


def test_closed_port_is_unreachable(data_dir: Path, closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", closed_port)
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["unreachable"]
    assert error.transient
    assert not error.reached
    assert f"{closed_port}{IMAGES}: cannot be reached (" in str(error)


def test_endless_body_is_cut_off_at_the_size_limit(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [ENDLESS]
    error = failure(data_dir, Limits(connect=60, silence=60, total=120, size=400_000))
    assert [failure.kind for failure in error.failures] == ["corrupt"]
    assert not error.transient
    assert "400,000 bytes" in str(error)
    assert not list(path_of(data_dir, "").glob("*.partial"))
    fetch(data_dir)
    assert_complete(data_dir)


# ---------------------------------------------------------------------------------------------- mirrors


def test_second_mirror_is_used_when_the_first_fails(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", f"{server.url}one {server.url}two/")
    server.faults[IMAGES] = [status(404)]
    fetch(data_dir)
    paths = [f"/one/{IMAGES}", f"/two/{IMAGES}", *(f"/one/{name}" for name in NAMES[1:])]
    assert server.requests == [Request(path, None) for path in paths]
    assert_complete(data_dir)


def test_all_mirrors_and_their_reasons_are_listed_in_order(
    data_dir: Path, server: BadHttp, closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = [closed_port, f"{server.url}one/", f"{server.url}two/", f"{server.url}three/"]
    monkeypatch.setenv("MNIST_BP_MIRRORS", " ".join(mirrors))
    server.faults[IMAGES] = [status(404), status(503), HTML]
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["unreachable", "refused", "interrupted", "corrupt"]
    assert [failure.url for failure in error.failures] == [mirror + IMAGES for mirror in mirrors]
    places = [str(error).index(str(failure)) for failure in error.failures]
    assert places == sorted(places)
    assert f"tiny: {IMAGES}" in str(error)
    assert "MNIST_BP_MIRRORS" in str(error)
    assert "--dataset mnist-sample" in str(error)
    assert error.transient
    assert error.reached


def test_mirrors_of_the_dataset_are_used_if_the_variable_is_not_set(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_BP_MIRRORS")
    own = DatasetSpec("tiny", DATASETS["tiny"].files, (f"{server.url}own/",), 10)
    monkeypatch.setitem(DATASETS, "tiny", own)
    fetch(data_dir)
    assert server.requests == [Request(f"/own/{name}", None) for name in NAMES]


def test_dataset_placeholder_is_replaced_by_the_name(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", f"{server.url}data/{{dataset}}")
    fetch(data_dir)
    assert server.requests == [Request(f"/data/tiny/{name}", None) for name in NAMES]


def test_redirect_is_followed(data_dir: Path, server: BadHttp) -> None:
    server.faults[IMAGES] = [redirect(f"/elsewhere/{IMAGES}")]
    fetch(data_dir)
    assert server.requests[:2] == [Request(f"/{IMAGES}", None), Request(f"/elsewhere/{IMAGES}", None)]
    assert_complete(data_dir)


def test_directory_with_a_space_is_a_mirror_and_continues_a_partial_file(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", directory_mirror(tmp_path / "my mirror"))
    leave_partial(data_dir, CONTENT[:HALF])
    counts: list[float] = []
    fetch_dataset("tiny", data_dir, on_progress=lambda count, _, name: counts.append(count) if name == IMAGES else None)
    assert max(counts) == counts[-1] == len(CONTENT)
    assert min(counts) > HALF
    assert_complete(data_dir)


def test_directory_without_the_file_is_a_definite_refusal(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", tmp_path.as_uri())
    error = failure(data_dir)
    assert [failure.kind for failure in error.failures] == ["refused"]
    assert "No such file or directory" in str(error)


@pytest.mark.parametrize(
    "address",
    ["ftp://example.org/mnist/", "mirror/mnist", "file://host/mnist", "http://", "http://[::1/", "s3://"],
)
def test_unusable_mirror_is_refused_by_name_before_any_request(
    data_dir: Path, server: BadHttp, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", f"{server.url} {address}")
    with pytest.raises(ConfigError) as caught:
        fetch(data_dir)
    assert_one_line(str(caught.value))
    assert f"MNIST_BP_MIRRORS contains {address!r}" in str(caught.value)
    assert server.requests == []


# ---------------------------------------------------------------------------------------------- MNIST or the sample


def test_unreachable_mnist_falls_back_to_the_sample_and_states_the_cause(
    tmp_path: Path, sample_raw: RawDataset, closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", closed_port)
    raw = fetch_mnist_or_sample(unpacked(sample_raw, tmp_path), last_attempt=False, limits=PATIENT)
    assert_is_sample(raw, sample_raw, "cannot be reached")


def test_overloaded_mirror_is_not_replaced_by_the_sample_while_attempts_remain(
    tmp_path: Path, sample_raw: RawDataset, server: BadHttp
) -> None:
    server.faults[MNIST_IMAGES] = [status(503), status(503)]
    data_dir = unpacked(sample_raw, tmp_path)
    with pytest.raises(DownloadError, match="HTTP 503") as caught:
        fetch_mnist_or_sample(data_dir, last_attempt=False, limits=PATIENT)
    assert caught.value.transient
    assert_is_sample(fetch_mnist_or_sample(data_dir, last_attempt=True, limits=PATIENT), sample_raw, "HTTP 503")


def test_definite_refusal_falls_back_to_the_sample(tmp_path: Path, sample_raw: RawDataset, server: BadHttp) -> None:
    raw = fetch_mnist_or_sample(unpacked(sample_raw, tmp_path), last_attempt=False, limits=PATIENT)
    assert_is_sample(raw, sample_raw, "HTTP 404")


def test_cached_mnist_is_used_without_the_network(mnist_raw: RawDataset, server: BadHttp) -> None:
    raw = fetch_mnist_or_sample(data_dir_of(mnist_raw), last_attempt=True, limits=PATIENT)
    assert (raw.name, raw.cache, raw.notice) == ("mnist", "hit", None)
    assert raw.files == mnist_raw.files
    assert server.requests == []


@pytest.mark.usefixtures("server")
def test_mnist_requested_by_name_is_never_replaced_by_the_sample(data_dir: Path) -> None:
    with pytest.raises(DownloadError, match="could not download mnist: "):
        fetch_dataset("mnist", data_dir, limits=PATIENT)
    assert [path.name for path in (data_dir / "raw").iterdir()] == ["mnist"]


def assert_is_sample(raw: RawDataset, sample_raw: RawDataset, reason: str) -> None:
    assert raw.name == "mnist-sample"
    assert [file.sha256 for file in raw.files] == [file.sha256 for file in sample_raw.files]
    assert raw.notice is not None
    assert_one_line(raw.notice)
    assert "NOT comparable" in raw.notice
    assert reason in raw.notice


def unpacked(sample_raw: RawDataset, data_dir: Path) -> Path:
    """Copy the sample to a data directory; unpacking it again would take 3 s."""
    shutil.copytree(data_dir_of(sample_raw), data_dir, dirs_exist_ok=True)
    return data_dir


# ---------------------------------------------------------------------------------------------- helpers


def directory_mirror(directory: Path) -> str:
    """Write the files to a directory and return its address."""
    directory.mkdir()
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)
    return f"file://{quote(str(directory))}/"


def start_fetch(spec: DatasetSpec, data_dir: Path, largest_file: int | None = None) -> subprocess.Popen[str]:
    """Start a process that fetches once it reads a line; files larger than a limit fail as on a full disk."""
    script = f"""
import resource, signal
from pathlib import Path
from mnist_bp.data.datasets import DATASETS, DatasetSpec, SourceFile
from mnist_bp.data.download import fetch_dataset
from mnist_bp.errors import MnistBpError

DATASETS["tiny"] = {spec!r}
if {largest_file}:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, {largest_file}))
print("ready", flush=True)
input()
try:
    print(fetch_dataset("tiny", Path({str(data_dir)!r})).cache)
except MnistBpError as exc:
    print(f"{{type(exc).__name__}}: {{exc}}")
"""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-Bc", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
