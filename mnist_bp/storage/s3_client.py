"""How requests reach a bucket: one boto3 client without retries, and our own retries around every request.

Credentials, region and endpoint come from the standard AWS_* environment and files; AWS_ENDPOINT_URL_S3 selects a
store other than Amazon's. They are never arguments, so they reach no configuration, manifest or log. The address style
and checksum settings of that environment are honoured.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC
from functools import cache, partial
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import quote

import boto3.session
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from mnist_bp.errors import StoreError
from mnist_bp.storage.interface import PAGE_SIZE, Entry
from mnist_bp.storage.library_logs import keep_secrets_out_of_logs
from mnist_bp.storage.retries import RetryPolicy, retry, within
from mnist_bp.storage.s3_errors import raising_store_errors, refuse_other_server

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 20

MIN_SPEED: Final = 64 << 10
"""Bytes per second; a request that moves fewer is abandoned."""

_MAX_CONNECTIONS: Final = 16
"""Connections that are kept open; with more threads than that, some would wait."""

_ENVIRONMENT: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_DEFAULT_REGION",
    }
)
"""Variables from which botocore takes what becomes part of the headers of a request."""

T = TypeVar("T")


class S3Client:
    """Requests about objects under a prefix of a bucket. Threads can share one instance.

    Args:
        bucket: Name of the bucket.
        prefix: Start of every key; empty, or ends with a slash.
        policy: Limits of the retries of one request.
    """

    def __init__(self, bucket: str, prefix: str, policy: RetryPolicy) -> None:
        self._bucket, self._prefix, self._policy = bucket, prefix, policy
        self._boto: Any = None
        self._opening = Lock()

    @property
    def boto(self) -> Any:
        """boto3's client, opened at first use: the credentials are read then."""
        with self._opening:
            if self._boto is None:
                with raising_store_errors(f"cannot open {self.uri('')}"):
                    self._boto = _open_boto_client()
            return self._boto

    def uri(self, key: str) -> str:
        """Return s3://bucket/prefix/key."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def url(self, key: str) -> str:
        """Return https://endpoint/bucket/prefix/key, with the endpoint that requests go to."""
        return f"{self.boto.meta.endpoint_url.rstrip('/')}/{self._bucket}/{quote(self._prefix + key)}"

    def at(self, key: str) -> dict[str, str]:
        """Return boto3's arguments that locate an object."""
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def without_retries(self, action: str, key: str, call: Callable[[], T], size: int = 0) -> T:
        """Make a request once; raise StoreError for whatever boto3 raises, and if it takes too long.

        Args:
            action: Verb for the message: cannot `action` s3://...
            key: Object that the request is about.
            call: Function that makes the request.
            size: Bytes that are sent or received.
        """
        what = f"cannot {action} {self.uri(key)}"

        def attempt() -> T:
            with raising_store_errors(what):
                return call()

        return within(self._policy.attempt_seconds + size / MIN_SPEED, attempt, what)

    def with_retries(self, action: str, key: str, call: Callable[[], T], size: int = 0) -> T:
        """Make a request again until it succeeds or the policy's limits are reached; see `without_retries`."""
        return self.repeated(lambda: self.without_retries(action, key, call, size))

    def repeated(self, call: Callable[[], T]) -> T:
        """Call again what makes several requests by `without_retries`; see `with_retries`."""
        return retry(call, self._policy, self.uri(""))

    def list_objects(self, prefix: str, page_size: int = PAGE_SIZE) -> Iterator[Entry]:
        """List everything below a prefix. boto3's paginator would not survive a failed request."""
        next_page: dict[str, str] = {}
        while True:
            asked = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, "MaxKeys": page_size, **next_page}
            page = self.with_retries("list", prefix, partial(self._list_page, asked))
            for found in page.get("Contents", []):
                key = found["Key"].removeprefix(self._prefix)
                yield Entry(key, found["Size"], found["LastModified"].astimezone(UTC))
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or next_page == {"ContinuationToken": token}:
                raise StoreError(
                    f"cannot list {self.uri(prefix)}: the store says that its listing goes on, and not where (no new "
                    "NextContinuationToken); see mnist-bp store check"
                )
            next_page = {"ContinuationToken": token}

    def _list_page(self, asked: dict[str, Any]) -> Any:
        """Request a page. This opens the client within the time limit: a program that finds credentials may hang."""
        return self.boto.list_objects_v2(**asked)


def _options(session: Any) -> dict[str, Any]:
    """Choose options of boto3's client that most stores accept, where the user's environment and files choose none.

    Args:
        session: botocore's session, which reads the files.
    """
    profile = session.get_scoped_config()
    options: dict[str, Any] = {}
    # CRC headers are on by default since boto3 1.36, and several S3-compatible stores reject them
    for name in ("request_checksum_calculation", "response_checksum_validation"):
        if not (os.environ.get(f"AWS_{name.upper()}") or profile.get(name)):
            options[name] = "when_required"
    if not (profile.get("s3") or {}).get("addressing_style"):
        options["s3"] = {"addressing_style": "path"}
    return options


def _check_certificates(session: Any) -> None:
    """Refuse a file without certificates; botocore would report it as a fault of the network, and try again."""
    place = session.get_config_variable("ca_bundle")
    if place:
        try:
            ssl.create_default_context(cafile=place)
        except OSError as exc:
            cause = "no certificate in it" if isinstance(exc, ssl.SSLError) else str(exc.strerror).lower()
            raise StoreError(
                f"the certificates in {place} cannot be read: {cause}; correct or unset AWS_CA_BUNDLE (or ca_bundle in "
                "the AWS configuration file)"
            ) from exc


def _endpoint(session: Any) -> str | None:
    """Return the endpoint of the environment without blanks and line breaks around it, or None: botocore finds it."""
    given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if given == given.strip() or session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    return given.strip() or None


def _check_header_values(session: Any) -> None:
    """Refuse values that cannot be part of a header before a request is made: errors of libraries would show them.

    Args:
        session: botocore's session, which has found the values in variables or files, or by a program.
    """
    found = session.get_credentials()
    values = {"region": session.get_config_variable("region")}
    if found is not None:  # otherwise the first request reports it
        known = found.get_frozen_credentials()
        values |= {
            "aws_access_key_id": known.access_key,
            "aws_secret_access_key": known.secret_key,
            "aws_session_token": known.token,
        }
    for name, value in values.items():
        if value and not (value.isascii() and value.isprintable()):
            variables = sorted(each for each in _ENVIRONMENT if os.environ.get(each) == value)
            source = (
                " and ".join(variables) or f"{name} ({_source(name, found)}, profile {session.profile or 'default'})"
            )
            raise StoreError(
                f"{source} contains a line break, a control character or a character beyond ASCII: correct it"
            )


def _source(name: str, credentials: Any) -> str:
    """Return where botocore found a value that no variable holds, by its own name, such as shared-credentials-file."""
    return "config-file" if name == "region" else str(credentials.method)


@cache
def _loader(directories: str | None) -> Loader:
    """Return botocore's loader of S3's API description, which all clients share: parsing it takes 0.1 s."""
    return create_loader(directories)


def _open_boto_client() -> Any:
    keep_secrets_out_of_logs()
    client = None
    try:
        # not boto3's process-wide session, which would keep the first credentials that it found
        session = botocore.session.Session()
        _check_header_values(session)
        _check_certificates(session)
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        client = boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=_endpoint(session),
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=_MAX_CONNECTIONS,
                **_options(session),
            ),
        )
    except ValueError as exc:
        if "@" not in str(exc):
            raise
    # outside of the except block: with the error in its context, a traceback would show the secret
    if client is None or "@" in client.meta.endpoint_url:
        raise StoreError(
            "the endpoint (AWS_ENDPOINT_URL_S3) contains an @: expected http(s)://host:port alone; "
            "credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    # with this pattern it runs before botocore's handler, which takes HTML for a truncated reply and would try again
    client.meta.events.register("before-parse.*.*", partial(refuse_other_server, client.meta.endpoint_url))
    return client
