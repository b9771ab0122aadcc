"""How requests reach a bucket: one boto3 client without retries of its own, and ours around every request.

Credentials, region and endpoint come from the standard AWS_* environment and files; AWS_ENDPOINT_URL_S3 points at
MinIO and its kind. They are never arguments, so they can reach no configuration, manifest or log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Final, TypeVar

import boto3.session
from botocore import exceptions as aws
from botocore.config import Config

from mnist_bp.errors import StoreError
from mnist_bp.storage.retries import RetryPolicy, retry
from mnist_bp.storage.s3_errors import code_of, in_our_words
from mnist_bp.storage.s3_replies import refuse_other_server

_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 20

_MAX_CONNECTIONS: Final = 16
"""Connections that are kept; more threads than that would wait for one another."""


@dataclass(frozen=True)
class Listing:
    """How to list something page by page.

    Args:
        operation: boto3's name of the request.
        entries: Where a page has its entries.
        markers: Parameters of the next request, by where a page has their values.
        none: Errors that only say that there is nothing of the kind.
    """

    operation: str
    entries: str
    markers: Mapping[str, str]
    none: frozenset[str] = frozenset()


OBJECTS: Final = Listing("list_objects_v2", "Contents", {"NextContinuationToken": "ContinuationToken"})
UPLOADS: Final = Listing(
    "list_multipart_uploads",
    "Uploads",
    {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"},
    frozenset({"NoSuchUpload", "NotImplemented", "MethodNotAllowed"}),  # the first is rclone's
)

T = TypeVar("T")


class S3Requests:
    """Requests about objects under a prefix of a bucket. Threads may share it.

    Args:
        bucket: Its name.
        prefix: What every key starts with; empty, or ends in a slash.
        budget: How far a request is pursued.
    """

    def __init__(self, bucket: str, prefix: str, budget: RetryPolicy) -> None:
        self.bucket, self.prefix, self.budget = bucket, prefix, budget
        self._made: Any = None
        self._making = Lock()

    @property
    def client(self) -> Any:
        """The client, made when first asked for: credentials are read then."""
        with self._making:
            if self._made is None:
                with in_our_words(f"cannot open {self.uri('')}"):
                    self._made = _client()
            return self._made

    def uri(self, key: str) -> str:
        """Return s3://bucket/prefix/key."""
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def at(self, key: str) -> dict[str, str]:
        """Return what tells boto3 where an object is."""
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def without_retries(self, action: str, key: str, call: Callable[[], T]) -> T:
        """Make a request, or several that belong together, with errors in our words.

        Args:
            action: What it is to do, for the message: cannot `action` s3://...
            key: What it is about.
            call: Makes it.
        """
        with in_our_words(f"cannot {action} {self.uri(key)}"):
            return call()

    def with_retries(self, action: str, key: str, call: Callable[[], T]) -> T:
        """Make a request again until it succeeds or the budget is spent; see `without_retries`."""
        return retry(lambda: self.without_retries(action, key, call), self.budget)

    def list_all(self, prefix: str, listing: Listing) -> Iterator[dict[str, Any]]:
        """List everything below a prefix. boto3's own paginator does not survive a failed request."""

        def ask(place: Mapping[str, str]) -> dict[str, Any]:
            try:
                request = getattr(self.client, listing.operation)
                page: dict[str, Any] = request(Bucket=self.bucket, Prefix=self.prefix + prefix, **place)
            except aws.ClientError as exc:
                if code_of(exc) in listing.none:
                    return {}
                raise
            return page

        place: dict[str, str] = {}
        while True:
            page = self.with_retries("list", prefix, partial(ask, place))
            yield from page.get(listing.entries, [])
            if not page.get("IsTruncated"):
                return
            place = {parameter: page[marker] for marker, parameter in listing.markers.items()}


def _client() -> Any:
    for name in ("boto3", "botocore", "s3transfer"):  # at DEBUG, botocore logs headers, a session token among them
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    client = _make_client()
    if client is None or "@" in client.meta.endpoint_url:
        raise StoreError(
            "the endpoint (AWS_ENDPOINT_URL_S3) has an @ in it: expected http(s)://host:port alone; "
            "credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )

    def check(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        refuse_other_server(client.meta.endpoint_url, operation_model.name, response_dict)

    # by this pattern, to come before botocore's own: that one takes HTML for a reply cut short, worth another attempt
    client.meta.events.register("before-parse.*.*", check)
    return client


def _make_client() -> Any:
    """Make a client; None where its address cannot be used, and must not be told, in any error: it may hold a secret.

    Raises:
        ValueError: It cannot be used, and holds none.
    """
    try:
        # not boto3's process-wide session, which would keep the first credentials it ever found
        return boto3.session.Session().client(
            "s3",
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=_MAX_CONNECTIONS,
                s3={"addressing_style": "path"},
                # CRC headers are on by default since boto3 1.36, and several S3-compatible stores reject them
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    except ValueError as exc:
        if "@" not in str(exc):
            raise
        return None
