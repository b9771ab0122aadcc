"""Places that hold files under keys: a directory, or a bucket of an S3-compatible store, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from mnist_bp.errors import ConfigError
from mnist_bp.store.local import LocalStore

class Store(Protocol):
    """The one interface of all places. A key is a relative path with forward slashes.

    Every method raises StoreError, `transient` where another attempt may help.
    """

    def uri(self, key: str) -> str:
        """Name a key for a reader."""
        ...

    def check_writable(self) -> None:
        """Prove that files can be put here, before work is spent on making them."""
        ...

    def put(self, key: str, path: Path) -> None:
        """Store a copy of a local file. A reader sees it whole or not at all."""
        ...

    def get(self, key: str) -> bytes:
        """Read a whole file."""
        ...

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read a file piece by piece, from byte `start` on."""
        ...


def open_store(uri: str, *, attempts: int = 1) -> Store:
    """Open a place by its address. Nothing is contacted yet.

    Args:
        uri: A directory, file:///directory or s3://bucket/prefix.
        attempts: How often a request to S3 may be made in all when the fault is transient.

    Raises:
        ConfigError: Some other address.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        from mnist_bp.store.s3 import S3Store  # boto3: 0.3 s, and absent on machines that only train

        return S3Store(parts.netloc, parts.path.strip("/"), attempts=attempts)
    if parts.scheme == "file" and not parts.netloc:
        return LocalStore(Path(unquote(parts.path)))
    if "://" not in uri:
        return LocalStore(Path(uri))
    raise ConfigError(f"cannot open {uri!r}: expected a directory, file:///directory or s3://bucket/prefix")
