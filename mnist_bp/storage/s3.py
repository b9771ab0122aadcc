"""A bucket of an S3-compatible store, through boto3.

    s3.py           the store's methods
    s3_uploads.py   put-if-absent, in one request or in parts
    s3_requests.py  the client; every request with its retries
    s3_replies.py   whether it is a store that answers
    s3_errors.py    what boto3 raises, in our words
    retries.py      when a request is made again

No other modules import boto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from botocore import exceptions as aws

from mnist_bp.errors import StoreError
from mnist_bp.storage.files import CHUNK, TEMPORARY_SUFFIX, expect_digest, sha256_of_bytes
from mnist_bp.storage.interface import Entry, SwapOutcome, Versioned, conflict
from mnist_bp.storage.probe import probe_conditions, probe_name
from mnist_bp.storage.retries import RetryPolicy
from mnist_bp.storage.s3_client import OBJECTS, UPLOADS, S3Requests
from mnist_bp.storage.s3_errors import MISSING, code_of, status_of
from mnist_bp.storage.s3_uploads import abort, upload


class S3Store:
    """Objects under a prefix of a bucket. Threads may share it.

    Args:
        bucket: Its name.
        prefix: What every key starts with; may be empty.
        budget: How far a request is pursued.
    """

    def __init__(self, bucket: str, prefix: str, budget: RetryPolicy) -> None:
        self._requests = S3Requests(bucket, f"{prefix}/" if prefix else "", budget)
        self._honoured: bool | None = None

    def uri(self, key: str) -> str:
        """Return s3://bucket/prefix/key."""
        return self._requests.uri(key)

    def check_writable(self) -> None:
        """Put a small object, delete it again, and list; see `Store`."""
        place = self._requests.at(f"{probe_name()}{TEMPORARY_SUFFIX}")
        self._requests.with_retries("write to", "", lambda: self._requests.client.put_object(**place, Body=b""))
        self._requests.with_retries("delete from", "", lambda: self._requests.client.delete_object(**place))
        next(self._requests.list_all(probe_name(), OBJECTS), None)  # may be refused where writing is not

    def put(self, key: str, source: Path | bytes, sha256: str) -> bool:
        """Upload a file to a key that is free; see `Store`.

        It is looked at first: a store that ignores the condition of the upload overwrites nothing then, but in a race.
        """
        stored = False
        there = self._digest(key)
        if there is None:
            outcome = upload(self._requests, key, source, sha256)
            if outcome == "stored":
                return True
            stored = outcome == "perhaps stored"
            there = self._digest(key)
        if there is None:
            raise StoreError(f"{self.uri(key)} is put and deleted by another process at this moment; try again")
        if there != sha256:
            raise conflict(self.uri(key), there, sha256)
        return stored

    def get(self, key: str, sha256: str | None = None) -> bytes:
        """Read an object; see `Store`."""
        content = self._get(key)
        if sha256 is not None and sha256_of_bytes(content) != sha256:
            content = self._get(key)  # what a second reading does not show was done on the way, not there
            expect_digest(self.uri(key), sha256_of_bytes(content), sha256, "restore it from a copy")
        return content

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read an object piece by piece; what breaks off is the caller's to go on with. See `Store`."""
        byte_range = {"Range": f"bytes={start}-"} if start else {}

        def begin() -> Any:
            try:
                return self._requests.client.get_object(**self._requests.at(key), **byte_range)["Body"]
            except aws.ClientError as exc:
                if code_of(exc) == "InvalidRange":
                    return BytesIO()  # `start` is the end: there is nothing more
                raise

        body = self._requests.with_retries("read", key, begin)
        while chunk := self._requests.without_retries("read", key, lambda: body.read(CHUNK)):
            yield chunk

    def list_entries(self, prefix: str = "") -> Iterator[Entry]:
        """List objects, page by page; see `Store`."""
        for found in self._requests.list_all(prefix, OBJECTS):
            key = found["Key"].removeprefix(self._requests.prefix)
            if not key.rpartition("/")[2].startswith("."):  # a probe's
                yield Entry(key, found["Size"], found["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        """Delete an object; see `Store`."""
        self._requests.with_retries("delete", key, lambda: self._delete(key))

    def read(self, key: str) -> Versioned | None:
        """Read an object; its version is its ETag. See `Store`."""
        return self._requests.with_retries("read", key, lambda: self._fetch_if_there(key))

    def compare_and_swap(self, key: str, content: bytes, expected: str | None) -> SwapOutcome:
        """Put on a condition, once; where conditions are known to be ignored, compare before. See `Store`."""
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        if self._honoured is False:
            there = self.read(key)
            if (there.version if there else None) != expected:
                return "lost"
            condition = {}

        def write() -> SwapOutcome:
            try:
                self._requests.client.put_object(
                    **self._requests.at(key), Body=content, ContentType="application/json", **condition
                )
            except aws.ClientError as exc:
                if status_of(exc) in (409, 412) or (expected is not None and code_of(exc) in MISSING):
                    return "lost"
                raise
            return "won"

        try:
            return self._requests.without_retries("write", key, write)
        except StoreError as exc:
            if exc.transient:
                return "unknown"
            raise

    def supports_conditional_writes(self) -> bool:
        """Try, once for each store that is opened; see `Store`."""
        if self._honoured is None:
            self._honoured = all(finding.ok for finding in probe_conditions(self))
        return self._honoured

    def remove_leftovers(self, before: datetime, *, dry_run: bool = False) -> list[str]:
        """Abort uploads in parts, and delete what probes have left; see `Store`."""
        removed = []
        for found in self._requests.list_all("", OBJECTS):
            key = found["Key"].removeprefix(self._requests.prefix)
            if key.endswith(TEMPORARY_SUFFIX) and found["LastModified"] < before:
                removed.append(self.uri(key))
                if not dry_run:
                    self.delete(key)
        for found in self._requests.list_all("", UPLOADS):
            key = found["Key"].removeprefix(self._requests.prefix)
            if found["Initiated"] < before:
                removed.append(f"{self.uri(key)} (upload {found['UploadId']})")
                if not dry_run:
                    abort(self._requests, key, found["UploadId"])
        return sorted(removed)

    def _get(self, key: str) -> bytes:
        return self._requests.with_retries("read", key, lambda: self._fetch(key)).content

    def _fetch(self, key: str) -> Versioned:
        reply = self._requests.client.get_object(**self._requests.at(key))
        return Versioned(reply["Body"].read(), reply["ETag"])

    def _fetch_if_there(self, key: str) -> Versioned | None:
        try:
            return self._fetch(key)
        except aws.ClientError as exc:
            if code_of(exc) in MISSING:
                return None
            raise

    def _delete(self, key: str) -> None:
        try:
            self._requests.client.delete_object(**self._requests.at(key))
        except aws.ClientError as exc:
            if code_of(exc) not in MISSING:
                raise

    def _digest(self, key: str) -> str | None:
        """Hash what is there, None where nothing is."""
        found = self.read(key)
        return None if found is None else sha256_of_bytes(found.content)
