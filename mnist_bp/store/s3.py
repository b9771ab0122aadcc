"""A bucket of an S3-compatible store, through boto3. The only module that imports boto3.

Credentials, region and endpoint come from the standard AWS_* environment and files; AWS_ENDPOINT_URL_S3 points at
MinIO and its kind. They are never arguments, so they can reach no configuration, manifest or log.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3.session
from botocore import exceptions as aws
from botocore.config import Config

from mnist_bp.errors import StoreError
from mnist_bp.files import CHUNK, reading_from

_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60

_TRANSIENT_CODES: Final = frozenset(
    {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"}
)
_REMEDIES: Final = {
    "NoSuchBucket": "create the bucket or correct the address",
    "NoSuchKey": "no such file there",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "check the credentials (AWS_*) and their rights to the bucket",
}


class S3Store:
    """Objects under a prefix of a bucket.

    Args:
        bucket: Its name.
        prefix: What every key starts with; may be empty.
        attempts: How often a request may be made in all when the fault is transient.
    """

    def __init__(self, bucket: str, prefix: str, *, attempts: int = 1) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._attempts = attempts
        self._made_client: Any = None

    @property
    def _client(self) -> Any:
        if self._made_client is None:
            # not boto3's process-wide session, which would keep the first credentials it ever found
            self._made_client = boto3.session.Session().client(
                "s3",
                config=Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": self._attempts},
                    s3={"addressing_style": "path"},
                    # CRC headers are on by default since boto3 1.36, and several S3-compatible stores reject them
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        return self._made_client

    def uri(self, key: str) -> str:
        """Return s3://bucket/prefix/key."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def check_writable(self) -> None:
        """Put a small object and delete it again; see `Store`."""
        key = f"{self._prefix}.mnist-bp-write-check"
        with self._errors("write to", ""):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=b"")
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def put(self, key: str, path: Path) -> None:
        """Upload a file in one request, which the store applies whole or not at all; see `Store`."""
        content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
        with reading_from(path):
            source = path.open("rb")
        with self._errors("write", key), source as file:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=file, ContentType=content_type)

    def get(self, key: str) -> bytes:
        """Read an object; see `Store`."""
        return b"".join(self.stream(key))

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Read an object piece by piece; see `Store`."""
        byte_range = {"Range": f"bytes={start}-"} if start else {}
        with self._errors("read", key):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **byte_range)
            except aws.ClientError as exc:
                if exc.response["Error"]["Code"] == "InvalidRange":
                    return  # `start` is the end: there is nothing more
                raise
            yield from reply["Body"].iter_chunks(CHUNK)

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        what = f"cannot {action} {self.uri(key)}"
        try:
            yield
        except aws.ClientError as exc:
            code = exc.response.get("Error", {}).get("Code", "unknown error")
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            transient = status >= 500 or status == 429 or code in _TRANSIENT_CODES
            remedy = _REMEDIES.get(code, "try again" if transient else "see the store's documentation")
            raise StoreError(f"{what}: {code} (HTTP {status}); {remedy}", transient=transient) from exc
        except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as exc:
            raise StoreError(f"{what}: {exc}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from exc
        except (aws.ConnectionError, aws.HTTPClientError, aws.IncompleteReadError) as exc:
            raise StoreError(f"{what}: {exc}; check AWS_ENDPOINT_URL_S3 and the network", transient=True) from exc
        except ValueError as exc:  # an endpoint that is no address
            raise StoreError(f"{what}: {exc}; check AWS_ENDPOINT_URL_S3") from exc
        except aws.BotoCoreError as exc:
            raise StoreError(f"{what}: {exc}; check the AWS_* environment") from exc
