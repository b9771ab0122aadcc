"""What is refused before a Ray cluster is used. tests/scenarios/test_ray.py uses a real one."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.errors import ClusterError, ConfigError
from mnist_bp.pipeline import open_run
from mnist_bp.training import ray_connection
from mnist_bp.training.ray_connection import check_cluster, connected

SWEEP = RunConfig(dataset="mnist-sample", sweep="hidden=3,4", seeds="1..2", steps=20, checkpoint_every=20, runner="ray")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "RAY_ADDRESS is not set; expected HOST:PORT"),
        ("local", "expected HOST:PORT of a Ray cluster, such as 10.0.0.5:6379, or auto"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT of a Ray cluster"),
        ("127.0.0.1", "expected HOST:PORT of a Ray cluster"),
        (":6379", "expected HOST:PORT of a Ray cluster"),
        ("127.0.0.1:99999", "expected HOST:PORT of a Ray cluster"),
    ],
)
def test_a_run_on_ray_without_the_address_of_a_cluster_is_a_setting_that_cannot_work(
    address: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=expected):
        open_run(SWEEP)


def test_without_the_package_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mnist-bp\[ray\]'"):
        check_cluster()


def test_a_ray_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setitem(sys.modules, "ray._private", None)
    with pytest.raises(ConfigError, match=r"ray cannot be imported: .*; install it again"):
        check_cluster()


SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The first frame of a server of HTTP/2, without any setting."""


@contextmanager
def serving(reply: bytes | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let a server be at RAY_ADDRESS that sends a reply to whatever it is sent, and closes; None sends nothing."""

    def serve() -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            connections.append(connection)
            if reply is not None:
                connection.recv(1)
                connection.sendall(reply)
                connection.shutdown(socket.SHUT_WR)

    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        threading.Thread(target=serve, daemon=True).start()
        yield address
        for connection in connections:
            connection.close()


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that answers as Ray does."""
    with serving(SETTINGS, monkeypatch) as address:
        yield address


class Ray(ModuleType):
    """Stands for Ray while it connects.

    Args:
        connect: Called instead of `ray.init`.
    """

    def __init__(self, connect: Callable[[], object]) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.connections: list[str] = []
        self._connect = connect

    def init(self, address: str, **_: Any) -> None:
        self._connect()
        self.connections.append(address)

    def shutdown(self) -> None:
        self.connections.append("closed")


@pytest.fixture
def use_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Ray]:
    def use(connect: Callable[[], object]) -> Ray:
        ray, private = Ray(connect), ModuleType("ray._private")
        private.worker = ModuleType("worker")  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray._private", private)
        return ray

    return use


def raises(error: BaseException) -> Callable[[], object]:
    def connect() -> object:
        raise error

    return connect


_IGNORE = 1
"""SIG_IGN of C."""

UseRay = Callable[[Callable[[], object]], Ray]


def test_a_run_connects_to_the_cluster_once_before_it_begins(listening: str, use_ray: UseRay) -> None:
    ray = use_ray(lambda: None)
    open_run(SWEEP)
    assert ray.connections == [listening, "closed"]


def test_an_address_at_which_nothing_listens_is_refused_without_asking_ray(
    use_ray: UseRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = use_ray(lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
    with pytest.raises(ClusterError, match=r"no Ray cluster could be reached"):
        check_cluster()
    assert not ray.connections


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_another_server_is_refused_without_asking_ray(
    reply: bytes | None, use_ray: UseRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = use_ray(lambda: None)
    monkeypatch.setattr(ray_connection, "CHECK_TIMEOUT_S", 0.3)
    with (
        serving(reply, monkeypatch) as address,
        pytest.raises(ClusterError, match=f"{address}: what answers .* not Ray"),
    ):
        open_run(SWEEP)
    assert not ray.connections


def test_a_server_that_never_answers_ray_is_refused(
    listening: str, use_ray: UseRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_connection, "CHECK_TIMEOUT_S", 0.3)
    waiting = threading.Event()
    use_ray(waiting.wait)
    with pytest.raises(ClusterError, match=f"RAY_ADDRESS={listening}: could not connect .* no answer of Ray's within"):
        open_run(SWEEP)
    waiting.set()


def test_a_cluster_with_tls_is_left_to_ray(use_ray: UseRay, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use_ray(lambda: None)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with serving(None, monkeypatch) as address:
        check_cluster()
    assert ray.connections == [address, "closed"]


def test_whatever_is_at_the_address_is_refused_within_ten_seconds() -> None:
    assert ray_connection.CHECK_TIMEOUT_S < 10


def test_auto_without_a_cluster_is_refused_before_the_run_begins(
    use_ray: UseRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    use_ray(raises(ConnectionError("Could not find any running Ray instance.")))
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS=auto: .*: Could not find any running Ray instance"):
        open_run(SWEEP)


@pytest.mark.usefixtures("listening")
def test_what_ray_says_of_other_versions_is_one_line(use_ray: UseRay) -> None:
    use_ray(
        raises(RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.58.0\n    Python: 3.12.1"))
    )
    with pytest.raises(ClusterError, match=r"started with: Ray: 2.58.0 Python: 3.12.1; expected one .* same versions"):
        check_cluster()


@pytest.mark.usefixtures("listening")
def test_the_handlers_of_signals_are_those_of_this_process_while_it_is_connected_and_afterwards(
    use_ray: UseRay,
) -> None:
    """Ray replaces them in C, where Python does not see it."""
    libc = ctypes.CDLL(None)
    received: list[int] = []
    ray = use_ray(lambda: libc.signal(signal.SIGTERM, _IGNORE))
    ray.shutdown = lambda: libc.signal(signal.SIGTERM, _IGNORE)  # type: ignore[method-assign]
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with connected():
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == 2 * [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
