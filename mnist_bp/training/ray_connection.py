"""The Ray cluster at $RAY_ADDRESS: whether a run can use it, and the connection to it.

This machine must be a node of the cluster. None is ever started.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from mnist_bp.errors import ClusterError, ConfigError, one_line

logger = logging.getLogger(__name__)

ADDRESS: Final = "RAY_ADDRESS"
CHECK_TIMEOUT_S: Final = 8.0
"""Seconds in which Ray must connect before a run begins, so that any other server is refused within 10."""
_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2, which Ray speaks, begins: the preface, and a frame of no settings (RFC 9113, section 3.4)."""

CONNECT_TIMEOUT_S: Final = 30.0
"""Seconds in which it must connect again, once it did."""


def check_cluster() -> None:
    """Check that Ray is installed, and connect to the cluster at `$RAY_ADDRESS` once.

    Raises:
        ConfigError: Ray is not installed, or the address is missing or of another form.
        ClusterError: No cluster answers there, or its versions of Ray or Python are others.
    """
    _check_reachable(cluster_address())
    with connected(CHECK_TIMEOUT_S):
        pass


@contextmanager
def connected(timeout: float = CONNECT_TIMEOUT_S) -> Iterator[Any]:
    """Connect to the cluster at `$RAY_ADDRESS`, and disconnect at the end.

    Args:
        timeout: In seconds.

    Yields:
        The module `ray`.

    Raises:
        ConfigError, ClusterError: See `check_cluster`.
    """
    address = cluster_address()
    try:
        import ray
        from ray._private import worker
    except ImportError as exc:
        raise ConfigError(
            f"runner ray: the package ray cannot be imported: {exc}; install it again: pip install 'mnist-bp[ray]'"
        ) from exc

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # Ray prints on standard output, where `--json` has its result: 25 lines for a lost node.
    worker.print_to_stdstream = lambda message, **_: logger.debug("\n".join(message["lines"]))
    problems: list[BaseException] = []

    def connect() -> None:
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except BaseException as exc:
            problems.append(exc)

    # In a thread, since it may wait for minutes; and so it takes no signal handlers.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive() or problems:
        reason = one_line(str(problems[0])) if problems else f"no answer of Ray's within {timeout:.0f} s"
        raise ClusterError(
            f"{ADDRESS}={address}: could not connect to a Ray cluster: {reason}; expected one that this machine is a "
            "node of (ray start), with the same versions of Ray and Python"
        )
    try:
        _take_signals_back()
        yield ray
    finally:
        ray.shutdown()
        _take_signals_back()


def _take_signals_back() -> None:
    """Install the handlers of this process again, which Ray's C++ code replaces as it connects, and as it disconnects.

    With Ray's, SIGTERM prints a stack trace and ends this process without its exit code and its hint. Outside the main
    thread, Python cannot install any.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)


def cluster_address() -> str:
    """Return the address of the cluster.

    Raises:
        ConfigError: See `check_cluster`.
    """
    if find_spec("ray") is None:
        raise ConfigError("runner ray: the package ray is missing; expected the extra ray: pip install 'mnist-bp[ray]'")
    address = os.environ.get(ADDRESS, "").strip()
    if not address:
        raise ConfigError(
            f"runner ray: {ADDRESS} is not set; expected HOST:PORT of a Ray cluster that this machine is a node of "
            "(ray start), or --runner local"
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or not port.isdecimal() or int(port) > 65_535 or "/" in address):
        raise ConfigError(f"{ADDRESS}={address}: expected HOST:PORT of a Ray cluster, such as 10.0.0.5:6379, or auto")
    return address


def _check_reachable(address: str) -> None:
    """Check that a server of HTTP/2 answers at an address: Ray takes long to find out that none does, and prints more.

    Raises:
        ClusterError: None does.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CHECK_TIMEOUT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return
            connection.sendall(_GREETING)
            with connection.makefile("rb") as reply:
                settings = reply.read(9)[3:4] == b"\x04"  # the type of its first frame
    except TimeoutError:
        settings = False
    except OSError as exc:
        raise ClusterError(
            f"{ADDRESS}={address}: no Ray cluster could be reached ({exc}); start one with ray start, or use "
            "--runner local"
        ) from exc
    if not settings:
        raise ClusterError(
            f"{ADDRESS}={address}: what answers there, or does not within {CHECK_TIMEOUT_S:.0f} s, is not Ray; "
            "expected the address that ray start prints"
        )
