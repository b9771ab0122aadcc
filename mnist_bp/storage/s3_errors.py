"""What boto3 raises, in this library's words: what failed, whether it may pass, and what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import urllib3.exceptions as http
from botocore import exceptions as aws

from mnist_bp.errors import StoreError

MISSING: Final = frozenset({"NoSuchKey", "NotFound"})
UNKNOWN_HEADER: Final = frozenset({"NotImplemented"})
"""What a store answers that takes no conditions, and says so."""

_TRANSIENT: Final = frozenset(
    {
        "ConditionalRequestConflict",  # another's write of the same key is under way
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_NETWORK: Final = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.IncompleteReadError,
    # botocore lets these two through where the body of an error breaks off or falls silent
    http.ProtocolError,
    http.ReadTimeoutError,
)
_LASTING_TLS: Final = {
    "CERTIFICATE_VERIFY_FAILED": "have AWS_CA_BUNDLE name the authority that vouches for the store",
    "WRONG_VERSION_NUMBER": "no TLS is spoken there: have AWS_ENDPOINT_URL_S3 begin with http://, or correct its port",
}
"""What to do about errors of TLS that no further attempt mends, by OpenSSL's names."""

_REMEDIES: Final = {
    "NoSuchBucket": "create the bucket or correct the address",
    "NoSuchKey": "no such file there",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "InvalidToken": "check AWS_SESSION_TOKEN",
    "ExpiredToken": "the credentials have expired: set new ones (AWS_*)",
    "AccessDenied": "check the credentials (AWS_*) and their rights to the bucket: read, write, list and delete",
    "AuthorizationHeaderMalformed": "check AWS_DEFAULT_REGION",
    "PermanentRedirect": "check AWS_DEFAULT_REGION",
    "InvalidArgument": "check AWS_ENDPOINT_URL_S3: MinIO, for one, answers this at the port of its console",
    "NotImplemented": "see mnist-bp store check for what this store can do",
}


class OtherServerError(aws.BotoCoreError):  # type: ignore[misc]  # botocore carries no types
    """The reply of a server that is no S3 store."""

    fmt = "{endpoint} is no S3 store: it answered with HTTP {status} and {kind}"


def code_of(exc: aws.ClientError) -> str:
    """Return S3's name of an error."""
    return str(exc.response.get("Error", {}).get("Code", "unknown error"))


def status_of(exc: aws.ClientError) -> int:
    """Return the HTTP status of an error, 0 where there is none."""
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def in_our_words(what: str) -> Iterator[None]:
    """Turn everything that boto3 raises inside into one clear line.

    Args:
        what: Could not be done.

    Raises:
        StoreError: In place of it; `transient` where another attempt may help.
    """
    try:
        yield
    except aws.ClientError as exc:
        code, status = code_of(exc), status_of(exc)
        transient = status >= 500 or status == 429 or code in _TRANSIENT
        remedy = _REMEDIES.get(code, "try again" if transient else "see the store's documentation")
        if code in UNKNOWN_HEADER:
            transient = False  # though its status is 501
        if code == "RequestTimeTooSkewed":
            remedy = _clocks(exc)
        raise StoreError(f"{what}: {code} (HTTP {status}); {remedy}", transient=transient) from exc
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as exc:
        raise StoreError(f"{what}: {exc}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from exc
    except aws.SSLError as exc:
        lasting = next((each for sign, each in _LASTING_TLS.items() if sign in str(exc)), None)
        raise StoreError(f"{what}: {exc}; {lasting or 'try again'}", transient=lasting is None) from exc
    except OtherServerError as exc:
        remedy = "have AWS_ENDPOINT_URL_S3 name a store's address and port, and nothing stand in between"
        raise StoreError(f"{what}: {exc}; {remedy}") from exc
    except _NETWORK as exc:
        if _no_such_host(exc):
            raise StoreError(f"{what}: {exc}: no host has this name; check AWS_ENDPOINT_URL_S3") from exc
        raise StoreError(f"{what}: {exc}; check AWS_ENDPOINT_URL_S3 and the network", transient=True) from exc
    except ValueError as exc:  # an endpoint that is no address
        raise StoreError(f"{what}: {exc}; check AWS_ENDPOINT_URL_S3") from exc
    except aws.BotoCoreError as exc:
        raise StoreError(f"{what}: {exc}; check the AWS_* environment") from exc


def _no_such_host(exc: BaseException | None) -> bool:
    """Tell whether a name was looked up, and there is none; not that it could not be looked up, which may pass."""
    while exc is not None and not isinstance(exc, socket.gaierror):
        exc = exc.__cause__ or exc.__context__
    return exc is not None and exc.errno == socket.EAI_NONAME


def _clocks(exc: aws.ClientError) -> str:
    """Say how far this machine's clock is from that of a server which therefore refused the signature."""
    advice = "set this machine's clock (timedatectl set-ntp true), or else the server's"
    try:
        server = parsedate_to_datetime(exc.response["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return f"this machine's clock and the server's differ by too much: {advice}"
    ahead = datetime.now(UTC) - server
    apart = timedelta(seconds=round(abs(ahead).total_seconds()))
    direction = "ahead of" if ahead > timedelta() else "behind"
    return (
        f"this machine's clock is {apart} (h:mm:ss) {direction} the server's, {server:%Y-%m-%d %H:%M:%S} UTC: {advice}"
    )
