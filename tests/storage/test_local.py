"""A directory as a store: errors of its disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from tests.support.store_files import error_of, put

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
@pytest.mark.parametrize(
    "action",
    [lambda store: put(store, "key", b"content"), lambda store: store.check_writable()],
    ids=["put", "check_writable"],
)
def test_the_error_for_an_unwritable_directory_names_it(place: str, action: Callable[[Store], object]) -> None:
    Path("a-file").write_bytes(b"in the way")
    error = error_of(lambda: action(open_store(place)))
    assert str(error).startswith(f"cannot write {Path(place).absolute()}")
    assert "--artifacts" in str(error)
    assert not error.transient
    assert Path("a-file").read_bytes() == b"in the way"


def test_a_full_disk_leaves_earlier_files_and_no_temporary_file(tmp_path: Path) -> None:
    """A limit on file size replaces the full disk: both interrupt a write."""
    put(open_store("place"), "old.bin", b"old")
    script = (
        "import resource, signal, sys\n"
        "from mnist_bp.errors import StoreError\n"
        "from mnist_bp.storage.reading import sha256_of_bytes\n"
        "from mnist_bp.storage.address import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    open_store(sys.argv[1]).put('file.bin', bytes(100_000), sha256_of_bytes(bytes(100_000)))\n"
        "except StoreError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path / "place")],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"cannot write {tmp_path / 'place' / 'file.bin'}: ")
    assert [path.name for path in Path("place").iterdir()] == ["old.bin"]
    assert open_store("place").get("old.bin") == b"old"
