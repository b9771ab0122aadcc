"""A bucket of an S3-compatible store, through boto3.

    s3.py           the methods of a store
    s3_client.py    one boto3 client for each bucket; retries around every request
    s3_errors.py    errors of boto3, and replies of servers that are not S3 stores, as StoreError
    retries.py      when a request is made again

No other modules import boto3.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from botocore import exceptions as aws

from mnist_bp.errors import StoreError
from mnist_bp.storage.files import (
    CHUNK,
    TEMPORARY_SUFFIX,
    expect_digest,
    sha256_of_bytes,
    verified_content,
)
from mnist_bp.storage.interface import PAGE_SIZE, Entry, conflict
from mnist_bp.storage.probe import probe_create, probe_name
from mnist_bp.storage.retries import RetryPolicy
from mnist_bp.storage.s3_client import S3Client
from mnist_bp.storage.s3_errors import code_of, status_of

MAX_FILE_SIZE: Final = 5 << 30
"""Bytes of the largest file: S3 takes no more in one request."""

_IF_ABSENT: Final = {"IfNoneMatch": "*"}
_MISSING: Final = "NoSuchKey"


class S3Store:
    """Objects under a prefix of a bucket. Threads can share one instance.

    Args:
        bucket: Name of the bucket.
        prefix: Start of every key; may be empty.
        policy: Limits of the retries of one request.
    """

    def __init__(self, bucket: str, prefix: str, policy: RetryPolicy) -> None:
        self._client = S3Client(bucket, f"{prefix}/" if prefix else "", policy)
        self._supports_conditions: bool | None = None  # unknown until probed

    def uri(self, key: str) -> str:
        """Return s3://bucket/prefix/key."""
        return self._client.uri(key)

    def check_writable(self) -> None:
        """Put a small object, delete it, and list; see `Store`."""
        key = f"{probe_name()}{TEMPORARY_SUFFIX}"
        self._client.with_retries("write to", "", lambda: self._put(key, b""))
        self.delete(key)
        next(self._client.list_objects(probe_name()), None)  # may be denied where writing is allowed

    def put(self, key: str, source: Path | bytes, sha256: str) -> None:
        """Upload a file in one request, on the condition that the key is free; see `Store`.

        The key is read first: a store that ignores the condition then overwrites nothing either, except in a race.
        """
        if isinstance(source, Path) and source.is_file() and (size := source.stat().st_size) > MAX_FILE_SIZE:
            raise StoreError(
                f"cannot write {self.uri(key)}: {source} has {size:,} bytes, expected at most {MAX_FILE_SIZE:,} "
                "(5 GiB), S3's limit for one request; publish to a directory (--artifacts)"
            )
        content = verified_content(source, sha256, self.uri(key))
        existing = self.read(key)
        if existing is None:
            if self.create(key, content):
                return
            existing = self.read(key)  # it may be ours: the reply to an earlier attempt may have been lost
        if existing is None:
            raise StoreError(f"{self.uri(key)} was put and deleted by another process at the same time; run again")
        if (found := sha256_of_bytes(existing)) != sha256:
            raise conflict(self.uri(key), found, sha256)

    def get(self, key: str, sha256: str | None = None) -> bytes:
        """Read an object; see `Store`."""
        found = self.read(key)
        if found is None:
            raise StoreError(f"cannot read {self.uri(key)}: no such file; check the address")
        if sha256 is not None:
            expect_digest(self.uri(key), sha256_of_bytes(found), sha256, "restore it from a copy")
        return found

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read an object in chunks; after an interruption, the caller can continue. See `Store`."""
        byte_range = {"Range": f"bytes={start}-"} if start else {}

        def begin() -> Any:
            try:
                return self._client.boto.get_object(**self._client.at(key), **byte_range)["Body"]
            except aws.ClientError as exc:
                if code_of(exc) == "InvalidRange":
                    return BytesIO()  # `start` is the end of the file
                raise

        body = self._client.with_retries("read", key, begin)
        while chunk := self._client.without_retries("read", key, lambda: body.read(CHUNK)):
            yield chunk

    def list_entries(self, prefix: str = "", page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        """List objects, page by page; see `Store`."""
        for entry in self._client.list_objects(prefix, page_size):
            if not entry.key.rpartition("/")[2].startswith("."):  # a probe's
                yield entry

    def delete(self, key: str) -> None:
        """Delete an object; see `Store`."""

        def attempt() -> None:
            try:
                self._client.boto.delete_object(**self._client.at(key))
            except aws.ClientError as exc:
                if code_of(exc) != _MISSING:
                    raise

        self._client.with_retries("delete", key, attempt)

    def read(self, key: str) -> bytes | None:
        """Read an object; see `Store`."""

        def attempt() -> bytes | None:
            try:
                content: bytes = self._client.boto.get_object(**self._client.at(key))["Body"].read()
                return content
            except aws.ClientError as exc:
                if code_of(exc) == _MISSING:
                    return None
                raise

        return self._client.with_retries("read", key, attempt)

    def create(self, key: str, content: bytes) -> bool:
        """Put an object on the condition that the key is free; see `Store`."""
        return self._client.with_retries("write", key, lambda: self._create(key, content))

    def supports_conditional_writes(self) -> bool:
        """Probe once for each instance; see `Store`."""
        if self._supports_conditions is None:
            self._supports_conditions = probe_create(self).ok
        return self._supports_conditions

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        """Delete the objects of interrupted probes; see `Store`."""
        leftovers = [
            entry.key
            for entry in self._client.list_objects("")
            if entry.key.endswith(TEMPORARY_SUFFIX) and entry.modified < before
        ]
        if not dry_run:
            for key in leftovers:
                self.delete(key)
        return [self.uri(key) for key in leftovers]

    def _create(self, key: str, content: bytes) -> bool:
        try:
            return self._put(key, content, **_IF_ABSENT)
        except aws.ClientError as exc:
            if code_of(exc) != "NotImplemented":
                raise
            return self._put(key, content)  # a store that rejects conditions; the key was free when read

    def _put(self, key: str, content: bytes, **condition: str) -> bool:
        """Put an object, and return whether the condition held."""
        content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
        try:
            self._client.boto.put_object(**self._client.at(key), Body=content, ContentType=content_type, **condition)
        except aws.ClientError as exc:
            if status_of(exc) == 412:
                return False
            raise
        return True
