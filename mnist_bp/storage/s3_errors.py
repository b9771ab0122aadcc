"""Errors of boto3, and replies of servers that are not S3 stores, as StoreError: one line with the cause and a hint."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import urllib3.exceptions as http
from botocore import exceptions as aws

from mnist_bp.errors import StoreError

_TRANSIENT_CODES: Final = frozenset({"RequestTimeout"})
_TRANSIENT_STATUS: Final = frozenset({408, 409, 429})
"""409 is a conflict with a write at the same time, under a name of each store's own."""
_NETWORK: Final = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.IncompleteReadError,
    # botocore does not translate these two while it reads the body of an error
    http.ProtocolError,
    http.ReadTimeoutError,
)
_HINTS: Final = {
    "NoSuchBucket": "create the bucket or correct the address",
    "InvalidBucketName": "correct the address",
    "NoSuchKey": "check the address",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "XAdminUserNotFound": "check AWS_ACCESS_KEY_ID",  # versitygw's
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired: set new ones (AWS_*)",
    "AccessDenied": "check the credentials (AWS_*) and their rights to the bucket: read, write, list and delete "
    "(refused: {right}); if its policy requires encryption headers, set the bucket's default encryption in their place",
    "AuthorizationHeaderMalformed": "check AWS_DEFAULT_REGION",
    "PermanentRedirect": "check AWS_DEFAULT_REGION",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it (timedatectl set-ntp true)",
    "NotImplemented": "run mnist-bp store check to see what this store supports",
}
"""What to do about common errors, by S3's code."""

_RIGHTS: Final = {"ListObjectsV2": "s3:ListBucket", "HeadBucket": "s3:ListBucket", "HeadObject": "s3:GetObject"}
"""The right that a request needs, where its name is not that of the request."""

_MAX_MESSAGE: Final = 200
"""Characters of a store's own message that are shown."""

_SECRETS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
_TOKEN: Final = re.compile(r"[A-Za-z0-9+/=_-]{40,}|AKIA\w+|ASIA\w+")
"""What looks like a key, a signature or a token."""

_QUERY: Final = re.compile(r"(https?://[^\s?\"']*)\?[^\s\"']*")
"""An address with a query string, which says nothing to a user and may hold a signature."""

_OTHER_NAME: Final = "the certificate is for another name: start AWS_ENDPOINT_URL_S3 with a name that it contains"

_TLS_HINTS: Final = {
    "doesn't match": _OTHER_NAME,  # urllib3's
    "Hostname mismatch": _OTHER_NAME,
    "IP address mismatch": _OTHER_NAME,
    "CERTIFICATE_VERIFY_FAILED": "set AWS_CA_BUNDLE to the certificate of the authority that signed the store's",
    "WRONG_VERSION_NUMBER": "the server does not use TLS: start AWS_ENDPOINT_URL_S3 with http://, or correct its port",
}
"""What to do about TLS errors that are not transient, by a part of their text; the first that applies counts."""


class OtherServerError(aws.BotoCoreError):  # type: ignore[misc]  # botocore carries no types
    """The reply of a server that is not an S3 store."""

    fmt = "{endpoint} is not an S3 store: it answered with HTTP {status} and {kind}"


def code_of(exc: aws.ClientError) -> str:
    """Return S3's code of an error."""
    return str(exc.response.get("Error", {}).get("Code", "unknown error"))


def status_of(exc: aws.ClientError) -> int:
    """Return the HTTP status of an error, or 0 if it has no status."""
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def raising_store_errors(what: str) -> Iterator[None]:
    """Raise StoreError in place of whatever boto3 raises inside.

    Args:
        what: Start of the message, such as "cannot read s3://bucket/key".

    Raises:
        StoreError: A request failed; `transient` if another attempt may succeed.
    """
    try:
        yield
    except (aws.BotoCoreError, aws.ClientError, ValueError, *_NETWORK) as exc:
        # with the cause, a traceback (in Prefect's log, for example) would show its text, which may repeat any value of
        # the environment: what a store answered, headers, addresses
        raise _translated(what, exc) from None


def _translated(what: str, exc: Exception) -> StoreError:
    """Return the StoreError for an exception of boto3."""
    if isinstance(exc, aws.ClientError):
        code, status = code_of(exc), status_of(exc)
        right = _RIGHTS.get(exc.operation_name, f"s3:{exc.operation_name}")
        message, advice = _message_of(exc), _HINTS.get(code, "try again").format(right=right)
        transient = (status >= 500 and status != 501) or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES
        return StoreError(f"{what}: {code} (HTTP {status}){message}; {advice}", transient=transient)
    if isinstance(exc, aws.NoCredentialsError | aws.PartialCredentialsError):  # their text names variables alone
        return StoreError(f"{what}: {exc}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(exc, aws.ProfileNotFound):
        problem = f"AWS_PROFILE {exc.kwargs['profile']!r} is not the name of a profile"
        return StoreError(f"{what}: {problem}; list them: aws configure list-profiles")
    if isinstance(exc, aws.SSLError):
        hint = next((hint for name, hint in _TLS_HINTS.items() if name in str(exc)), None)
        text = _QUERY.sub(r"\1", str(exc))
        return StoreError(f"{what}: {text}; {hint or 'try again'}", transient=hint is None)
    if isinstance(exc, OtherServerError):
        hint = "set AWS_ENDPOINT_URL_S3 to the address and port of a store, without another server in between"
        return StoreError(f"{what}: {exc}; {hint}")
    if isinstance(exc, _NETWORK):
        return _network_error(what, exc)
    if isinstance(exc, aws.InvalidRegionError):  # also a ValueError
        return StoreError(f"{what}: the region is not the name of one; check AWS_DEFAULT_REGION")
    if isinstance(exc, ValueError):  # an endpoint that is not an address, which `s3_client` has searched for a password
        cause = str(exc) if str(exc).startswith("Invalid endpoint: ") else type(exc).__name__
        return StoreError(f"{what}: {cause}; check AWS_ENDPOINT_URL_S3")
    return StoreError(f"{what}: {type(exc).__name__}; check the AWS_* environment")


def _network_error(what: str, exc: Exception) -> StoreError:
    if type(exc) is aws.HTTPClientError:  # of another library, whose text may contain headers
        cause = type(getattr(exc, "kwargs", {}).get("error", exc)).__name__
        return StoreError(f"{what}: {cause}; check the network and AWS_*", transient=True)
    text = _QUERY.sub(r"\1", str(exc))
    if isinstance(exc, aws.ProxyConnectionError):
        return StoreError(f"{what}: {text}; correct HTTP_PROXY or HTTPS_PROXY, or set NO_PROXY", transient=True)
    if _host_is_unknown(exc):
        return StoreError(f"{what}: {text}: no host has this name; check AWS_ENDPOINT_URL_S3")
    tls = ", which starts with https:// if the store uses TLS," if isinstance(exc, aws.ConnectionClosedError) else ""
    return StoreError(f"{what}: {text}; check AWS_ENDPOINT_URL_S3{tls} and the network", transient=True)


def _message_of(exc: aws.ClientError) -> str:
    """Return the first line of the store's own message, shortened and without secrets; empty if it sent none."""
    lines = str(exc.response.get("Error", {}).get("Message") or "").strip().splitlines()
    if not lines:
        return ""
    text = _QUERY.sub(r"\1", lines[0])
    for secret in filter(None, (os.environ.get(name, "").strip() for name in _SECRETS)):
        text = text.replace(secret, "***")
    text = _TOKEN.sub("***", text)
    return f": {text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + '...'}".rstrip(". ")


def refuse_other_server(endpoint: str, operation_model: Any, response_dict: Mapping[str, Any], **_: object) -> None:
    """Refuse a reply that no S3 store makes, before it is taken for a success, an empty listing or a missing file.

    Args:
        endpoint: Address of the server, for the message.
        operation_model: The request, by botocore.
        response_dict: The reply that botocore is about to parse: `status_code`, `headers` and `body`.

    Raises:
        OtherServerError: The server is not an S3 store.
    """
    operation, status, headers = operation_model.name, int(response_dict["status_code"]), response_dict["headers"]
    body = response_dict["body"]
    if status >= 300:
        by_status_alone = status in (408, 409, 412, 429) or (status >= 500 and status != 501)
        valid = by_status_alone or b"<Error" in body or "x-amz-bucket-region" in headers or operation == "HeadBucket"
    elif operation == "ListObjectsV2":
        valid = b"ListBucketResult" in body or b"<Error" in body  # an error's status may be 200
    elif operation == "DeleteObject":
        valid = not body
    else:
        # versitygw sends no ETag of a file that was copied into the directory that it serves
        valid = "etag" in headers or "x-amz-request-id" in headers
    if not valid:
        if hasattr(body, "close"):  # an object's, which holds its connection until it is read
            body.close()
        raise OtherServerError(endpoint=endpoint, status=status, kind=headers.get("content-type", "no content type"))


def _host_is_unknown(exc: BaseException | None) -> bool:
    """Return whether the name was looked up and does not exist; a failed look-up is transient."""
    while exc is not None and not isinstance(exc, socket.gaierror):
        exc = exc.__cause__ or exc.__context__
    return exc is not None and exc.errno == socket.EAI_NONAME
