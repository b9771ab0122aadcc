"""The runner of a Ray cluster: each part is a task of Ray. Only this module imports Ray.

    RAY_ADDRESS=10.0.0.5:6379 mnist-bp train --sweep "learning_rate=0.1,0.3" --seeds 1..1000 --runner ray

It connects to the cluster at $RAY_ADDRESS, of which this machine must be a node, and never starts one. The dataset is
put once into Ray's memory, which the processes of a node share. A part whose process or node is lost is submitted
again: its files have the same bytes, so it does not matter how far it came. A node that has other code or computes
other bits gets no more parts, also one that joins later: each process is checked before its first part.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from mnist_bp.errors import ClusterError, one_line
from mnist_bp.layout import run_key
from mnist_bp.storage.address import open_store
from mnist_bp.training.cluster_worker import Failure, Machine, read_arrays, this_machine, train_here
from mnist_bp.training.parts import Part, PartContext, PartResult

logger = logging.getLogger(__name__)

ADDRESS: Final = "RAY_ADDRESS"
REACH_TIMEOUT_S: Final = 10.0
"""Seconds in which the address must accept a connection."""
CONNECT_TIMEOUT_S: Final = 30.0
"""Seconds in which Ray must connect."""
FREE_TIMEOUT_S: Final = 60.0
"""Seconds in which a CPU must become free, or a node return."""

MAX_CORES: Final = 8
"""Cores of a task: each process takes 330 MB, so a large node has few of them."""
MAX_ATTEMPTS: Final = 8
"""Attempts to train one part before its loss counts as its own fault."""
TASKS_PER_SLOT: Final = 4
"""Tasks in flight for each that can run: none waits for this machine, and a cluster that can grow sees the demand."""


class RayRunner:
    """See `mnist_bp.training.parts.Runner`."""

    def run(self, parts: Sequence[Part], context: PartContext) -> Generator[PartResult, None, None]:
        """Train parts as tasks of the cluster at `$RAY_ADDRESS`; see `Runner.run`.

        Raises:
            ClusterError: The cluster cannot be reached, has no free CPU, or no node that computes the same bits; or a
                part failed or was lost repeatedly.
        """
        with _connected() as ray:
            yield from _ClusterRun(ray, context).results(parts)


def check_cluster() -> None:
    """Check that Ray is installed and that something accepts connections at `$RAY_ADDRESS`.

    Raises:
        ClusterError: It is not, or the address is missing, of another form, or unreachable.
    """
    if find_spec("ray") is None:
        raise ClusterError(
            "runner ray: the package ray is missing; expected the extra ray: pip install 'mnist-bp[ray]'"
        )
    address = os.environ.get(ADDRESS, "").strip()
    host, colon, port = address.rpartition(":")
    if not address:
        raise ClusterError(
            f"runner ray: {ADDRESS} is not set; expected HOST:PORT of a Ray cluster that this machine is a node of "
            "(ray start), or --runner local"
        )
    if address == "auto":
        return
    if not colon or not port.isdecimal() or "/" in address:
        raise ClusterError(f"{ADDRESS}={address}: expected HOST:PORT of a Ray cluster, such as 10.0.0.5:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_S).close()
    except (OSError, OverflowError) as exc:
        raise ClusterError(
            f"{ADDRESS}={address}: no Ray cluster could be reached ({exc}); start one with ray start, or use "
            "--runner local"
        ) from exc


@contextmanager
def _connected() -> Iterator[Any]:
    """Connect to the cluster, and disconnect at the end."""
    check_cluster()
    address = os.environ[ADDRESS].strip()
    import ray
    from ray._private import worker

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
    thread.join(CONNECT_TIMEOUT_S)
    if thread.is_alive() or problems:
        reason = one_line(str(problems[0])) if problems else f"no reply within {CONNECT_TIMEOUT_S:.0f} s"
        raise ClusterError(
            f"{ADDRESS}={address}: could not connect to a Ray cluster: {reason}; expected one that this machine is a "
            "node of (ray start), with the same versions of Ray and Python"
        )
    try:
        yield ray
    finally:
        ray.shutdown()


class _ClusterRun:
    """The parts of one run, as tasks.

    Args:
        ray: The module, connected.
        context: Of the run.
    """

    def __init__(self, ray: Any, context: PartContext) -> None:
        self._ray, self._context = ray, context
        self._gpus = 1 if context.device == "cuda" else 0
        self._excluded: dict[str, str] = {}
        self._seen: set[str] = set()
        self._attempts: Counter[int] = Counter()
        self._store, self._machine = open_store(context.artifacts), this_machine(context)
        self._cores = self._cores_of_a_task()

    def results(self, parts: Sequence[Part]) -> Iterator[PartResult]:
        """Submit the parts, and again those that are lost."""
        self._store.check_writable()  # makes its directory
        self._shared = [self._ray.put(shared) for shared in (self._context, read_arrays(self._context), self._machine)]
        self._task = self._ray.remote(num_cpus=self._cores, num_gpus=self._gpus, max_retries=0, max_calls=0)(_task)
        self._find_a_node()
        waiting, running, idle_since = deque(parts), dict[Any, Part](), time.monotonic()
        while waiting or running:
            while waiting and len(running) < TASKS_PER_SLOT * self._slots():
                part = waiting.popleft()
                running[self._submit(part)] = part
            done, _ = self._ray.wait([*running], num_returns=1, timeout=1.0) if running else ([], [])
            if done:
                done, _ = self._ray.wait([*running], num_returns=len(running), timeout=0)
                idle_since = time.monotonic()
            elif self._slots():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > FREE_TIMEOUT_S:
                raise ClusterError(
                    f"the cluster has had no usable node for {FREE_TIMEOUT_S:.0f} s; {self._resources()}"
                )
            elif not running:
                time.sleep(1.0)
            for reference in done:
                part = running.pop(reference)
                if (result := self._result(part, reference)) is None:
                    waiting.append(part)
                else:
                    yield result

    def _submit(self, part: Part | None) -> Any:
        selector = {"ray.io/node-id": f"!in({','.join(self._excluded)})"} if self._excluded else None
        options = self._task.options(scheduling_strategy="SPREAD", label_selector=selector)
        return options.remote(part, *self._shared, self._cores)

    def _result(self, part: Part, reference: Any) -> PartResult | None:
        """Return the result of a part; None if it must be submitted again."""
        result: PartResult | Failure | str = self._outcome(reference, f"part {part.number}")
        if isinstance(result, str):  # its process or node was lost
            self._attempts[part.number] += 1
            if self._attempts[part.number] >= MAX_ATTEMPTS:
                raise ClusterError(f"part {part.number} was lost {MAX_ATTEMPTS} times; the last time: {result}")
            logger.warning(f"part {part.number} is trained again: {result}")
            return None
        if isinstance(result, Failure):
            self._exclude(result)
            return None
        self._check_visible(result)
        return result

    def _outcome(self, reference: Any, what: str) -> Any:
        """Return what a task returned, or why its process was lost.

        Raises:
            ClusterError, MnistBpError: The task failed.
        """
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as exc:
            logger.error(str(exc))
            *_, last = str(exc).strip().splitlines() or [""]
            raise ClusterError(
                f"{what} could not be run on a node: {last}; expected the same mnist-bp on every node"
            ) from exc
        except self._ray.exceptions.RayError as exc:
            first, *_ = str(exc).strip().splitlines() or [""]
            return one_line(f"{type(exc).__name__}: {first}")
        if isinstance(result, Failure) and result.kind == "error":
            logger.error(f"{what} failed on node {result.node}:\n{result.log}")
            raise result.cause or ClusterError(f"{what} failed on node {result.node}: {result.message}")
        return result

    def _find_a_node(self) -> None:
        """Wait until a node has a free CPU, and check it, and another one if it cannot be used.

        Raises:
            ClusterError: None has, none can be used, or the process was lost `MAX_ATTEMPTS` times.
        """
        lost = 0
        while True:
            reference = self._submit(None)
            if not self._ray.wait([reference], timeout=FREE_TIMEOUT_S)[0]:
                self._ray.cancel(reference, force=True)
                raise ClusterError(
                    f"no free {'GPU' if self._gpus else 'CPU'} within {FREE_TIMEOUT_S:.0f} s; {self._resources()}"
                )
            result = self._outcome(reference, "a check")
            if isinstance(result, Failure):
                self._exclude(result)
            elif result.startswith("node "):
                return
            elif (lost := lost + 1) >= MAX_ATTEMPTS:
                raise ClusterError(f"no node could be checked, {lost} processes were lost; the last one: {result}")
            else:
                logger.warning(f"a node is checked again: {result}")

    def _exclude(self, failure: Failure) -> None:
        """Give a node no more parts.

        Raises:
            ClusterError: No other node is left.
        """
        name, _, node = failure.node.rpartition(" ")
        if node not in self._excluded:
            self._excluded[node] = failure.message
            logger.warning(f"{name} {node[:8]} gets no part of this run: {failure.message}")
        if not self._slots():
            raise ClusterError(f"no node of the cluster can train this run; {name} {node[:8]}: {failure.message}")

    def _check_visible(self, result: PartResult) -> None:
        """Check that the files of the first part of each node have arrived in the store that this machine sees."""
        if result.node not in self._seen and result.files:
            self._seen.add(result.node)
            key = run_key(self._context.run_id, result.files[0].name)
            if not any(entry.key == key for entry in self._store.list_entries(key)):
                raise ClusterError(
                    f"{self._store.uri(key)} was put on {result.node} and is not here; expected a directory that all "
                    "nodes share, or s3://bucket/prefix"
                )

    # -----------------------------------------------------------------------------------------------------------------
    # the cluster's resources

    def _nodes(self) -> list[dict[str, float]]:
        """Return the resources of the nodes that may train."""
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in self._excluded]
        return [node["Resources"] for node in nodes if node["Resources"].get("CPU", 0) >= 1]

    def _cores_of_a_task(self) -> int:
        """Return how many cores a task takes: those of the smallest node.

        Raises:
            ClusterError: The cluster has no CPU, or no GPU.
        """
        nodes = [node for node in self._nodes() if node.get("GPU", 0) >= self._gpus]
        if not nodes:
            raise ClusterError(
                f"the cluster has no {'GPU, which the engine cuda needs' if self._gpus else 'CPU'}; {self._resources()}"
            )
        return 1 if self._gpus else max(1, min(MAX_CORES, *(int(node["CPU"]) for node in nodes)))

    def _slots(self) -> int:
        """Return how many tasks can run at a time."""
        if self._gpus:
            return sum(int(node.get("GPU", 0)) for node in self._nodes())
        return sum(int(node["CPU"]) // self._cores for node in self._nodes())

    def _resources(self) -> str:
        found, free = self._ray.cluster_resources(), self._ray.available_resources()
        return (
            f"{os.environ[ADDRESS]} has {found.get('CPU', 0):.0f} CPUs, {free.get('CPU', 0):.0f} of them free, and "
            f"{found.get('GPU', 0):.0f} GPUs"
        )


def _task(part: Part | None, context: PartContext, arrays: Any, machine: Machine, threads: int) -> Any:
    """Train a part in a process of the cluster; see `mnist_bp.training.cluster_worker.train_here`."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return train_here(part, context, arrays, machine, threads, f"node {here}")
