"""Helpers for tests of stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_bp.errors import StoreError
from mnist_bp.storage.interface import Store
from mnist_bp.storage.reading import sha256_of_bytes


def put(store: Store, key: str, content: bytes) -> None:
    """Put bytes with their own digest."""
    store.put(key, content, sha256_of_bytes(content))


def local_file(content: bytes) -> Path:
    """Write a file to upload into the test's directory."""
    path = Path("to-upload")
    path.write_bytes(content)
    return path


def error_of(action: Callable[[], object]) -> StoreError:
    """Return the one-line error that an action raises."""
    with pytest.raises(StoreError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    return caught.value
