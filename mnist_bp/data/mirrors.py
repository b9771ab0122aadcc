"""Mirrors, which deliver the files of a dataset, and the ways in which they fail."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mnist_bp.data.datasets import MAX_SOURCE_SIZE, DatasetSpec
from mnist_bp.errors import UNPRINTABLE, ConfigError, FailureKind, StoreError
from mnist_bp.storage.address import address_problem, open_store
from mnist_bp.storage.library_logs import keep_secrets_out_of_logs
from mnist_bp.storage.proxies import proxy_variable

if TYPE_CHECKING:  # functions import HTTPX: it takes 0.1 s, and a cached dataset is found without it
    import httpx

MIRRORS_VARIABLE: Final = "MNIST_BP_MIRRORS"
_ADDRESSES: Final = "https://host/path, http://host/path, file:///directory or s3://bucket/prefix"


@dataclass(frozen=True)
class Limits:
    """Limits of one request for one file.

    Args:
        connect: Seconds until the connection is established.
        silence: Seconds without a byte.
        total: Seconds in all: connections, redirects, headers and body.
        size: Bytes.
    """

    connect: float = 10
    silence: float = 20
    total: float = 600
    size: int = MAX_SOURCE_SIZE


DEFAULT_LIMITS: Final = Limits()


def mirrors_of(spec: DatasetSpec) -> tuple[str, ...]:
    """List the mirrors to try, in order: those in `MNIST_BP_MIRRORS` if it is set, else those of the dataset.

    In `MNIST_BP_MIRRORS`, addresses are separated by spaces, and `{dataset}` is replaced by the dataset's name.

    Returns:
        Addresses that end in a slash.

    Raises:
        ConfigError: An address has an unknown scheme.
    """
    configured = os.environ.get(MIRRORS_VARIABLE, "").split()
    secret = any("@" in mirror for mirror in configured)  # a part of a password may be what is wrong
    for number, mirror in enumerate(configured, start=1):
        if (problem := _problem_of(mirror)) is not None:
            which = f"address {number} of {len(configured)}" if secret else repr(mirror)
            raise ConfigError(
                f"{MIRRORS_VARIABLE} contains {which}{problem}: expected {_ADDRESSES}, separated by spaces"
            )
    return tuple(mirror.replace("{dataset}", spec.name).rstrip("/") + "/" for mirror in (configured or spec.mirrors))


def _problem_of(mirror: str) -> str | None:
    """Return what is wrong with an address if it is unusable, which may be obvious (empty); None if it is usable."""
    if UNPRINTABLE.search(mirror):
        return ", which has a control character"
    if mirror.startswith(("file://", "s3://")):
        return None if address_problem(mirror) is None else ""
    import httpx

    try:
        parts = httpx.URL(mirror)  # as it is requested: a slash in a password ends the host, for example
    except (httpx.InvalidURL, ValueError):
        return ""
    return None if parts.scheme in ("https", "http") and parts.host else ""


class MirrorError(Exception):
    """One mirror did not deliver one file.

    Args:
        kind, reason: See `mnist_bp.errors.MirrorFailure`.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class MirrorResponse:
    """A mirror's response.

    Args:
        start: Offset of the first byte: the one requested, or 0 if the mirror sends the whole file.
        size: Bytes of the whole file; None if unknown.
        chunks: The bytes; iterating raises MirrorError if the connection is interrupted.
        content_type: Content type of an HTTP response, else empty.
    """

    start: int
    size: int | None
    chunks: Iterator[bytes]
    content_type: str = ""


def open_mirror(mirror: str, name: str, start: int, limits: Limits) -> AbstractContextManager[MirrorResponse]:
    """Request a file from a mirror, from byte `start` on.

    Args:
        mirror: An address from `mirrors_of`.
        name: File name.
        start: Offset of the first byte that is still missing.
        limits: Limits of the request.

    Raises:
        MirrorError: On entering the context, or while iterating over the chunks.
    """
    if mirror.startswith(("http://", "https://")):
        return _open_http(mirror + name, start, limits)
    return nullcontext(MirrorResponse(start, None, _stream(mirror, name, start)))


def _stream(mirror: str, name: str, start: int) -> Iterator[bytes]:
    try:
        yield from open_store(mirror, attempts=1).stream(name, start)  # the caller repeats the whole download
    except StoreError as exc:
        raise MirrorError("interrupted" if exc.transient else "refused", str(exc)) from exc


class _Deadline:
    """Ends the connections of a request when its time is over, whatever its server sends to keep them busy.

    The time-outs of HTTP clients are those of one read, so a server that sends a byte of a header now and then, or
    `100 Continue` without end, would never meet one.

    Args:
        seconds: Time of the whole request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.passed = False
        self._sockets: list[socket.socket] = []
        self._adding = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the socket of a new connection; an HTTPX `trace` extension."""
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        with self._adding:
            self._sockets.append(info["return_value"].get_extra_info("socket"))
        if self.passed:
            self._end()

    @property
    def error(self) -> MirrorError:
        """The error of a request whose time is over."""
        return MirrorError("interrupted", f"not finished after {self._seconds:g} s")

    def until_passed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield chunks; a body that ends because its time is over raises MirrorError."""
        yield from chunks
        if self.passed:
            raise self.error

    def _end(self) -> None:
        self.passed = True
        with self._adding:
            for each in self._sockets:
                with suppress(OSError):  # closed already
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # wakes the thread that reads, unlike close


@contextmanager
def _open_http(url: str, start: int, limits: Limits) -> Iterator[MirrorResponse]:
    import httpx

    headers = {"Accept-Encoding": "identity"}  # the digest is that of the stored file
    if start:
        headers["Range"] = f"bytes={start}-"
    keep_secrets_out_of_logs()
    timeout = httpx.Timeout(limits.silence, connect=limits.connect)
    with ExitStack() as stack:
        deadline = stack.enter_context(_Deadline(limits.total))
        stack.enter_context(_raising_mirror_errors(url, limits, deadline))
        try:
            client = stack.enter_context(httpx.Client(timeout=timeout, follow_redirects=True))
            request = client.stream("GET", url, headers=headers, extensions={"trace": deadline.follow})
            response = stack.enter_context(request)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as exc:  # of a host, a proxy or certificates
            cause = _missing_certificates() or type(exc).__name__  # its text may contain a password
            check = (
                f"correct {proxy}, the proxy" if (proxy := proxy_variable(url)) else "check the address and the proxy"
            )
            raise MirrorError("refused", f"cannot be requested ({cause}): {check}") from None
        yield _read_response(response, start, deadline)


@contextmanager
def _raising_mirror_errors(url: str, limits: Limits, deadline: _Deadline) -> Iterator[None]:
    """Raise MirrorError in place of whatever HTTPX raises inside."""
    import httpx

    try:
        yield
    except (httpx.TransportError, httpx.TooManyRedirects, httpx.InvalidURL) as exc:
        if deadline.passed:  # the cause of the error
            raise deadline.error from exc
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            cause = str(exc) or "timed out"
            if proxy := proxy_variable(url):  # by its name alone: its value may contain a password
                cause += f"; through the proxy in {proxy}: correct it, or add the host to NO_PROXY"
            raise MirrorError("unreachable", f"cannot be reached ({cause})") from exc
        if isinstance(exc, httpx.ReadTimeout):
            raise MirrorError("interrupted", f"no data for {limits.silence:g} s") from exc
        if isinstance(exc, httpx.InvalidURL):  # its text may contain a password
            raise MirrorError("refused", "it redirects to an invalid address") from None
        if isinstance(exc, httpx.UnsupportedProtocol | httpx.TooManyRedirects):
            raise MirrorError("refused", str(exc)) from exc
        raise MirrorError("interrupted", f"interrupted ({str(exc) or type(exc).__name__})") from exc


def _missing_certificates() -> str | None:
    """Return the line about a file of certificates that HTTPX should read and that is missing, or None."""
    if (place := os.environ.get("SSL_CERT_FILE")) and not Path(place).is_file():
        return f"SSL_CERT_FILE is {place}, which does not exist; correct or unset it"
    return None


def _read_response(response: httpx.Response, start: int, deadline: _Deadline) -> MirrorResponse:
    from httpx import codes

    status = response.status_code
    length = int(response.headers.get("Content-Length", 0)) or None
    content_type = response.headers.get("Content-Type", "")
    chunks = deadline.until_passed(response.iter_raw())
    if status == codes.OK:
        return MirrorResponse(0, length, chunks, content_type)
    if status == codes.PARTIAL_CONTENT and response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return MirrorResponse(start, length and start + length, chunks, content_type)
    if status == codes.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        return MirrorResponse(start, start, iter(()))  # the partial file has all bytes; its digest decides
    transient = status >= 500 or status in (codes.REQUEST_TIMEOUT, codes.TOO_MANY_REQUESTS)
    raise MirrorError("interrupted" if transient else "refused", f"HTTP {status} {response.reason_phrase}".strip())
