"""Whether a reply is one of an S3 store at all: any web server answers, some with 200 to whatever they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mnist_bp.storage.s3_errors import OtherServerError

_WITH_ETAG: Final = frozenset({"GetObject", "PutObject", "UploadPart"})
"""Operations whose success carries an ETag."""

_EMPTY: Final = frozenset({"DeleteObject", "AbortMultipartUpload"})
"""Operations whose success says nothing."""

_BODIES: Final = {
    "ListObjectsV2": b"ListBucketResult",
    "ListMultipartUploads": b"ListMultipartUploads",
    "CreateMultipartUpload": b"UploadId",
    "CompleteMultipartUpload": b"CompleteMultipartUpload",
}
"""What the body of a success contains; it may also be an error's, though its status is 200."""

_OF_ANY_SERVER: Final = frozenset({408, 409, 412, 429})
"""Errors that are understood by their status alone, as those from 500 on are, but for 501."""


def refuse_other_server(endpoint: str, operation: str, reply: Mapping[str, Any]) -> None:
    """Refuse a reply that no S3 store makes, before anyone takes it for a success, or for an absent file.

    Args:
        endpoint: Who made it, for the message.
        operation: What was asked for, as botocore names it.
        reply: What botocore is about to parse: `status_code`, `headers` and, where it is no file's, `body`.

    Raises:
        OtherServerError: It is none.
    """
    status, headers = int(reply["status_code"]), reply["headers"]
    if status < 300:
        if operation in _BODIES:
            good = _BODIES[operation] in reply["body"] or b"<Error" in reply["body"]
        elif operation in _EMPTY:
            good = not reply["body"]
        else:
            good = operation not in _WITH_ETAG or "etag" in headers
    elif status < 400:  # a store that sends one to another region says so
        good = b"<Error" in reply["body"] or "x-amz-bucket-region" in headers
    else:
        by_status = status in _OF_ANY_SERVER or (status >= 500 and status != 501)
        good = by_status or b"<Code>" in reply["body"] or operation == "HeadBucket"
    if not good:
        if hasattr(reply.get("body"), "close"):  # a file's, which nobody will read: it holds its connection
            reply["body"].close()
        raise OtherServerError(endpoint=endpoint, status=status, kind=headers.get("content-type", "no content type"))
