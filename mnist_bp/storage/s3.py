"""A bucket of an S3-compatible store, through boto3.

    s3.py           the methods of a store
    s3_client.py    one boto3 client for each bucket; retries around every request
    s3_errors.py    errors of boto3, and replies of servers that are not S3 stores, as StoreError
    retries.py      when a request is made again

No other modules import boto3.
"""

from __future__ import annotations

import hashlib
import mimetypes
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from botocore import exceptions as aws

from mnist_bp.errors import ChecksumError, DataFormatError, StoreError
from mnist_bp.storage.files import TEMPORARY_SUFFIX
from mnist_bp.storage.interface import PAGE_SIZE, UNREAD_DIGEST, Entry, conflict
from mnist_bp.storage.os_errors import RESTORE
from mnist_bp.storage.probe import probe_create, probe_name
from mnist_bp.storage.reading import (
    CHUNK,
    MAX_DOCUMENT_SIZE,
    expect_digest,
    expect_size,
    sha256_of_bytes,
    verified_content,
)
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

    def url(self, key: str) -> str:
        """Return the address of a key at the store's endpoint; see `Store`."""
        return self._client.url(key)

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
        found = self._stored_digest(key, len(content))
        if found is None:
            if self.create(key, content):
                return
            found = self._stored_digest(key, len(content))  # it may be ours: an earlier reply may have been lost
        if found is None:
            raise StoreError(f"{self.uri(key)} was put and deleted by another process at the same time; run again")
        if found != sha256:
            raise conflict(self.uri(key), found, sha256)

    def _stored_digest(self, key: str, size: int) -> str | None:
        """Return the SHA-256 of an object; None if it is missing. An object of another size is not read."""
        try:
            found = self._read(key, size=size)
        except ChecksumError:
            return UNREAD_DIGEST
        return None if found is None else sha256_of_bytes(found)

    def get(self, key: str, sha256: str | None = None, size: int | None = None) -> bytes:
        """Read an object; see `Store`."""
        found = self._read(key, size=size, limit=MAX_DOCUMENT_SIZE if sha256 is None else None)
        if found is None:
            raise StoreError(f"cannot read {self.uri(key)}: no such file; check the address")
        if sha256 is not None:
            expect_digest(self.uri(key), sha256_of_bytes(found), sha256, RESTORE)
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
        return self._read(key, limit=MAX_DOCUMENT_SIZE)

    def _read(self, key: str, *, size: int | None = None, limit: int | None = None) -> bytes | None:
        """Read an object; None if it is missing.

        Args:
            key: Key of the object.
            size: Its recorded size; if the store states another one, the body is not read.
            limit: Size above which the body is not read.
        """

        def begin() -> dict[str, Any] | None:
            try:
                return dict(self._client.boto.get_object(**self._client.at(key)))
            except aws.ClientError as exc:
                if code_of(exc) == _MISSING:
                    return None
                raise

        def attempt() -> bytes | None:
            reply = self._client.without_retries("read", key, begin)
            if reply is None:
                return None
            body, stated = reply["Body"], reply.get("ContentLength")
            try:
                if stated is None:  # then no more is read than is needed to refuse it
                    most = size if size is not None else limit
                    content: bytes = self._client.without_retries(
                        "read", key, lambda: body.read(None if most is None else most + 1), most or 0
                    )
                    self._check_size(key, len(content), size, limit)
                else:
                    self._check_size(key, stated, size, limit)
                    content = self._client.without_retries("read", key, body.read, stated)
            except (ChecksumError, DataFormatError):
                body.close()  # its connection would be kept until it is read
                raise
            return content

        return self._client.repeated(attempt)

    def _check_size(self, key: str, found: int, size: int | None, limit: int | None) -> None:
        expect_size(self.uri(key), found, size, RESTORE)
        if limit is not None and found > limit:
            raise DataFormatError(f"{self.uri(key)} has {found:,} bytes, expected at most {limit:,}; {RESTORE}")

    def create(self, key: str, content: bytes) -> bool:
        """Put an object on the condition that the key is free; see `Store`."""
        return self._client.with_retries("write", key, lambda: self._create(key, content), len(content))

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
        about = {
            "ContentType": mimetypes.guess_type(key)[0] or "application/octet-stream",
            # a bucket with Object Lock takes no object without a checksum, and MD5 is the one that every store knows
            "ContentMD5": b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
        }
        try:
            self._client.boto.put_object(**self._client.at(key), Body=content, **about, **condition)
        except aws.ClientError as exc:
            if status_of(exc) == 412:
                return False
            raise
        return True
