"""Files: complete or absent, verified before use, and built by one process at a time."""

from __future__ import annotations

import hashlib
import inspect
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_bp.errors import ChecksumError, StoreError
from mnist_bp.storage import locks
from mnist_bp.storage.files import atomic_write, check_writable, temporary_file, write_bytes
from mnist_bp.storage.locks import locked
from mnist_bp.storage.reading import digest_of, read_verified, sha256_of_bytes

REPOSITORY = Path(__file__).parents[2]


class Interruption(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write_half(path: Path, then: BaseException) -> None:
    with atomic_write(path) as file:
        file.write(b"half of the new")
        file.flush()
        raise then


@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("interruption", [ValueError("no"), OSError("no"), Interruption()])
def test_an_interrupted_write_leaves_the_earlier_file_and_no_temporary_file(
    interruption: BaseException, old: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(StoreError if isinstance(interruption, OSError) else type(interruption)):
        write_half(path, then=interruption)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == ({"file.bin": old} if old else {})


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"half of ")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"the new")
    assert path.read_bytes() == b"half of the new"
    assert names_in(tmp_path) == ["file.bin"]


def test_a_reader_sees_no_file_until_the_first_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "directory" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"first, and longer")
        second.write(b"second")
    assert path.read_bytes() == b"first, and longer"
    assert names_in(tmp_path) == ["file.bin"]


def test_a_file_is_flushed_to_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recording_fsync(descriptor: int) -> None:
        calls.append("fsync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        assert os.fstat(descriptor).st_size > 0  # the buffer was written before
        fsync(descriptor)

    def recording_replace(source: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(source, target)

    monkeypatch.setattr("os.fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    write_bytes(tmp_path / "file.bin", b"content")
    assert calls == ["fsync file", "rename", "fsync directory"]


def test_write_bytes_returns_the_digest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    digest = hashlib.sha256(b"content").hexdigest()
    assert write_bytes(path, b"content") == digest_of(path) == sha256_of_bytes(b"content") == digest
    assert read_verified(path, digest) == b"content"


@pytest.mark.parametrize("position", [0, 50, 99])
def test_a_flipped_bit_is_an_error_with_both_digests(position: int, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    content = bytearray(os.urandom(100))
    digest = write_bytes(path, bytes(content))
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumError) as caught:
        read_verified(path, digest)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert f"expected {digest}, found {hashlib.sha256(content).hexdigest()}" in message


@pytest.mark.parametrize("name", ["absent", "directory"])
def test_the_error_for_an_unreadable_file_is_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreError) as caught:
        read_verified(tmp_path / name, "0" * 64)
    assert str(caught.value).startswith(f"cannot read {tmp_path / name}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["in-the-way", "in-the-way/file.bin", "in-the-way/deep/file.bin"])
def test_the_error_for_an_unwritable_file_is_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    obstacle = tmp_path / "in-the-way"
    if name == "in-the-way":
        obstacle.mkdir()
    else:
        obstacle.write_bytes(b"a file where a directory should be")
    with pytest.raises(StoreError) as caught:
        write_bytes(tmp_path / name, b"content")
    assert str(caught.value).startswith(f"cannot write {tmp_path / name}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert names_in(tmp_path) == ["in-the-way"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_are_those_of_any_new_file(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file.bin", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.bin").stat().st_mode) == mode


def test_check_writable_creates_the_directory_and_leaves_it_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "directory")
    assert names_in(tmp_path / "new" / "directory") == []


# ---------------------------------------------------------------------------------------------------------------------
# one process at a time

HOLDER = (
    "import sys\n"
    "from pathlib import Path\n"
    "from mnist_bp.storage.locks import locked\n"
    "print('asks', flush=True)\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('holds', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def process_that_locks(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that locks a directory until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # printed lines are either read or still in the pipe, where select finds them
        cwd=REPOSITORY,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def prints(process: subprocess.Popen[bytes], word: str, *, within: float = 20) -> bool:
    """Return whether a process prints a word within some seconds."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], within)
    return bool(readable) and process.stdout.readline().decode().strip() == word


def test_a_second_process_waits_until_the_first_releases_the_lock(tmp_path: Path) -> None:
    with process_that_locks(tmp_path) as first:
        assert prints(first, "asks")
        assert prints(first, "holds")
        with process_that_locks(tmp_path) as second:
            assert prints(second, "asks")
            assert not prints(second, "holds", within=0.5)
            assert first.stdin is not None
            first.stdin.close()
            assert prints(second, "holds")


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    with process_that_locks(tmp_path) as first:
        assert prints(first, "asks")
        assert prints(first, "holds")
        first.kill()
        with process_that_locks(tmp_path) as second:
            assert prints(second, "asks")
            assert prints(second, "holds")


def test_two_directories_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with process_that_locks(tmp_path / "one") as other, locked(tmp_path / "two"):
        assert prints(other, "asks")
        assert prints(other, "holds")


def test_an_error_while_locked_is_raised_and_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no"), locked(tmp_path):
        raise OSError("no")
    with locked(tmp_path), process_that_locks(tmp_path) as other:
        assert prints(other, "asks")
        assert not prints(other, "holds", within=0.5)


def test_the_error_for_a_directory_that_cannot_be_locked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(StoreError) as caught, locked(tmp_path / "file"):
        pytest.fail("it was locked")
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'file'}: ")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_place_of_a_directory_is_named_and_no_space_is_asked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"{tmp_path}/file is a file, expected a directory") as caught:
        check_writable(tmp_path / name)
    assert "free space" not in str(caught.value)


def test_a_lock_held_by_a_stopped_process_is_reported_and_then_an_error_that_names_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "NOTICE_S", 0.2)
    with process_that_locks(tmp_path) as holder:
        assert prints(holder, "asks")
        assert prints(holder, "holds")
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
        with pytest.raises(StoreError) as caught, locked(tmp_path, timeout=1):
            pytest.fail("it was locked")
    (line,) = [record.getMessage() for record in caplog.records]
    for text in (line, str(caught.value)):
        assert str(tmp_path) in text
        assert f"process {holder.pid} (" in text
        assert "which is stopped" in text


def test_no_lock_is_waited_for_without_end_and_a_notice_comes_within_5_seconds() -> None:
    assert locks.NOTICE_S <= 5
    assert inspect.signature(locked).parameters["timeout"].default == locks.MAX_WAIT_S < float("inf")


def test_a_full_temporary_directory_is_named_with_the_variable_that_sets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(StoreError, match=f"cannot write a temporary file in {tmp_path}: .*full.*; set TMPDIR"),
        temporary_file(),
    ):
        raise OSError(28, "the disk is full")
