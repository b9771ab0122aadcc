"""How bytes are put where nothing is yet: in one conditional request, or in parts that one such request completes."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from botocore import exceptions as aws

from mnist_bp.errors import StoreError
from mnist_bp.storage.files import expect_digest, reading_from
from mnist_bp.storage.s3_client import S3Requests
from mnist_bp.storage.s3_errors import UNKNOWN_HEADER, code_of, status_of

PART_BYTES: Final = 16 << 20
"""From this size on a file goes in parts; at least 5 MiB, as S3 wants it of every part but the last."""

_MAX_PARTS: Final = 10_000

Upload = Literal["stored", "taken", "perhaps stored"]
"""`taken`: something was there. `perhaps stored`: something is there, and may be ours: an earlier reply was lost."""


def upload(requests: S3Requests, key: str, source: Path | bytes, sha256: str) -> Upload:
    """Put a file where nothing is.

    s3transfer, which boto3 has for this, knows no conditions, and would make its requests without our retries.

    Args:
        requests: Where to.
        key: Under which name.
        source: A local file, or the bytes themselves.
        sha256: What the bytes are to have; others are not stored.

    Raises:
        ChecksumError: The source is not what `sha256` says.
    """
    about = {"ContentType": mimetypes.guess_type(key)[0] or "application/octet-stream"}
    what = str(source) if isinstance(source, Path) else requests.uri(key)
    pieces = _pieces(source)
    first = next(pieces, b"")
    if len(first) < PART_BYTES:
        expect_digest(what, hashlib.sha256(first).hexdigest(), sha256)
        return _create(requests, key, "put_object", Body=first, **about)
    begun = requests.with_retries(
        "write", key, lambda: requests.client.create_multipart_upload(**requests.at(key), **about)
    )
    which = {"UploadId": begun["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        found = hashlib.sha256()
        piece = first
        while piece:
            found.update(piece)
            parts.append(_put_part(requests, key, piece, PartNumber=len(parts) + 1, **which))
            piece = next(pieces, b"")
        expect_digest(what, found.hexdigest(), sha256)
        outcome = _create(requests, key, "complete_multipart_upload", MultipartUpload={"Parts": parts}, **which)
    except BaseException:
        abort(requests, key, which["UploadId"])
        raise
    if outcome != "stored":
        abort(requests, key, which["UploadId"])
    return outcome


def _pieces(source: Path | bytes) -> Iterator[bytes]:
    """Cut a source into parts, one in memory at a time."""
    if isinstance(source, bytes):
        size = _part_bytes(len(source))
        yield from (source[start : start + size] for start in range(0, len(source), size))
        return
    with reading_from(source), source.open("rb") as file:
        size = _part_bytes(source.stat().st_size)
        while piece := file.read(size):
            yield piece


def _part_bytes(size: int) -> int:
    return max(PART_BYTES, -(-size // _MAX_PARTS))


def _put_part(requests: S3Requests, key: str, piece: bytes, **which: Any) -> dict[str, Any]:
    reply = requests.with_retries(
        "write", key, lambda: requests.client.upload_part(**requests.at(key), Body=piece, **which)
    )
    return {"PartNumber": which["PartNumber"], "ETag": reply["ETag"]}


def abort(requests: S3Requests, key: str, upload_id: str) -> None:
    """Have the parts of an upload removed; one that is gone is removed already."""
    which = {**requests.at(key), "UploadId": upload_id}
    with suppress(StoreError):  # unreachable: `remove_leftovers` is for that
        requests.with_retries("abort the upload of", key, lambda: requests.client.abort_multipart_upload(**which))


def _create(requests: S3Requests, key: str, operation: str, **arguments: Any) -> Upload:
    """Make the request that lets an object appear, on condition that there is none."""
    attempts = 0

    def attempt() -> Upload:
        nonlocal attempts
        attempts += 1
        create = getattr(requests.client, operation)
        try:
            create(**requests.at(key), **arguments, IfNoneMatch="*")
        except aws.ClientError as exc:
            if code_of(exc) in UNKNOWN_HEADER:
                create(**requests.at(key), **arguments)
                return "stored"
            completed = code_of(exc) == "NoSuchUpload" and attempts > 1
            if status_of(exc) != 412 and not completed:
                raise
            return "taken" if attempts == 1 else "perhaps stored"
        return "stored"

    return requests.with_retries("write", key, attempt)
