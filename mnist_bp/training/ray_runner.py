"""The runner of a Ray cluster: each part is a task of Ray.

    RAY_ADDRESS=10.0.0.5:6379 mnist-bp train --sweep "learning_rate=0.1,0.3" --seeds 1..1000 --runner ray

The dataset is put once into Ray's memory, which the processes of a node share. A part whose process or node is lost is
submitted again: its files have the same bytes, so it does not matter how far it came. A node that has other code or
computes other bits gets no more parts, also one that joins later: each process is checked before it trains.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, NamedTuple

from mnist_bp.errors import ClusterError, MnistBpError, one_line
from mnist_bp.layout import run_key
from mnist_bp.storage.address import open_store
from mnist_bp.training.cluster_worker import Arrays, Failure, Machine, Ready, read_arrays, this_machine, train_here
from mnist_bp.training.parts import Part, PartContext, PartResult
from mnist_bp.training.ray_connection import connected
from mnist_bp.training.ray_nodes import Nodes

logger = logging.getLogger(__name__)

START_S: Final = 5.0
"""Seconds in which a process of a node that is free starts."""
FREE_TIMEOUT_S: Final = 60.0
"""Seconds in which a CPU must become free, or a node return."""
SILENT_S: Final = 60.0
"""Seconds without a result after which a line shows whether the cluster is busy, such as with another run."""
POLL_S: Final = 1.0
"""Seconds between two looks at the nodes while no part ends."""

MAX_ATTEMPTS: Final = 8
"""Attempts to train one part before its loss counts as its own fault."""
TASKS_PER_SLOT: Final = 4
"""Tasks in flight for each that can run: none waits for this machine, and a cluster that can grow sees the demand."""


class Lost(NamedTuple):
    """The process or the node of a task was lost.

    Args:
        reason: One line.
    """

    reason: str


class RayRunner:
    """See `mnist_bp.training.parts.Runner`."""

    def run(self, parts: Sequence[Part], context: PartContext) -> Generator[PartResult, None, None]:
        """Train parts as tasks of the cluster at `$RAY_ADDRESS`; see `Runner.run`.

        Raises:
            ConfigError, ClusterError: The cluster cannot be reached, has no free CPU, or no node that computes the same
                bits; or a part failed or was lost repeatedly.
        """
        with connected() as ray:
            run = ClusterRun(ray, context)
            run.find_node(parts[0])
            yield from run.results(parts)


class ClusterRun:
    """The parts of one run, as tasks.

    Args:
        ray: The module, connected.
        context: Of the run.

    Raises:
        ClusterError: The cluster has no CPU, or no GPU where the run needs one.
        StoreError: The store cannot be written to.
        ChecksumError, DataFormatError: The dataset is damaged.
    """

    def __init__(self, ray: Any, context: PartContext) -> None:
        self._ray, self._context, self._nodes = ray, context, Nodes(ray, gpu=context.device == "cuda")
        self._store = open_store(context.artifacts)
        self._store.check_writable()  # makes its directory
        # in a list, so that a process fetches them when it asks for them, and not before each task
        self._arrays = [ray.put(read_arrays(context))]
        resources = {"num_cpus": self._nodes.cores, "num_gpus": self._nodes.gpus}
        self._task = ray.remote(**resources, max_retries=0, max_calls=0)(_task)
        self._attempts: Counter[int] = Counter()
        self._seen: set[str] = set()

    def find_node(self, part: Part) -> None:
        """Wait until a node is free, and check it, and another one if it cannot train a part.

        Raises:
            ClusterError: None is, none can, or the process was lost `MAX_ATTEMPTS` times.
        """
        lost = 0
        while True:
            reference = self._submit(part, only_check=True)
            found = self._ray.wait([reference], timeout=START_S)[0]
            if not found:
                logger.info(f"train       waiting for a free {self._nodes.unit}: {self._nodes}")
                found = self._ray.wait([reference], timeout=FREE_TIMEOUT_S - START_S)[0]
            if not found:
                self._ray.cancel(reference, force=True)
                raise ClusterError(f"no free {self._nodes.unit} within {FREE_TIMEOUT_S:.0f} s; {self._nodes}")
            match self._outcome(reference, "a check"):
                case Failure() as failure:
                    self._exclude(failure)
                case Lost(reason):
                    if (lost := lost + 1) >= MAX_ATTEMPTS:
                        raise ClusterError(f"no node could be checked, {lost} processes were lost; the last: {reason}")
                    logger.warning(f"a node is checked again: {reason}")
                case _:
                    return

    def results(self, parts: Sequence[Part]) -> Iterator[PartResult]:
        """Submit the parts, and again those that are lost.

        Yields:
            Results as they arrive.

        Raises:
            ClusterError: A part failed, or was lost `MAX_ATTEMPTS` times; or no usable node is left.
            MnistBpError: As a part does.
        """
        waiting, running = deque(parts), dict[Any, Part]()
        idle_since = silent_since = time.monotonic()
        while waiting or running:
            slots = self._nodes.slots
            while waiting and len(running) < TASKS_PER_SLOT * slots:
                part = waiting.popleft()
                running[self._submit(part)] = part
            done, _ = self._ray.wait([*running], num_returns=1, timeout=POLL_S) if running else ([], [])
            if done:
                done, _ = self._ray.wait([*running], num_returns=len(running), timeout=0)
            elif not running:
                time.sleep(POLL_S)
            now = time.monotonic()
            if done or slots:
                idle_since = now
            elif now - idle_since > FREE_TIMEOUT_S:
                raise ClusterError(f"the cluster has had no usable node for {FREE_TIMEOUT_S:.0f} s; {self._nodes}")
            if done:
                silent_since = now
            elif now - silent_since > SILENT_S:
                logger.info(f"train       no part has ended for {SILENT_S:.0f} s; {self._nodes}")
                silent_since = now
            failure: MnistBpError | None = None
            for reference in done:
                part = running.pop(reference)
                try:
                    result = self._result(part, reference)
                except MnistBpError as exc:
                    failure = failure or exc  # the other parts that are done are kept
                    continue
                if result is None:
                    waiting.append(part)
                else:
                    yield result
            if failure is not None:
                raise failure

    def _submit(self, part: Part, *, only_check: bool = False) -> Any:
        options = self._task.options(scheduling_strategy="SPREAD", label_selector=self._nodes.selector)
        expected = this_machine(part, self._context)
        return options.remote(part, expected, only_check, self._nodes.cores, self._context, self._arrays)

    def _result(self, part: Part, reference: Any) -> PartResult | None:
        """Return the result of a part; None if it must be submitted again."""
        match self._outcome(reference, f"part {part.number}"):
            case Failure() as failure:
                self._exclude(failure)
            case Lost(reason):
                self._attempts[part.number] += 1
                if self._attempts[part.number] >= MAX_ATTEMPTS:
                    raise ClusterError(f"part {part.number} was lost {MAX_ATTEMPTS} times; the last time: {reason}")
                logger.warning(f"part {part.number} is trained again: {reason}")
            case PartResult() as result:
                self._check_visible(result)
                return result
        return None

    def _outcome(self, reference: Any, what: str) -> PartResult | Ready | Failure | Lost:
        """Return what a task returned, or that it was lost.

        Raises:
            ClusterError, MnistBpError: The task failed.
        """
        try:
            result: PartResult | Ready | Failure = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as exc:
            logger.error(str(exc))
            *_, last = str(exc).strip().splitlines() or [""]
            raise ClusterError(
                f"{what} could not be run on a node: {last}; expected the same mnist-bp on every node"
            ) from exc
        except self._ray.exceptions.RayError as exc:
            first, *_ = str(exc).strip().splitlines() or [""]
            return Lost(one_line(f"{type(exc).__name__}: {first.partition('. ')[0]}"))
        if isinstance(result, Failure) and result.kind == "error":
            logger.error(f"{what} failed on node {result.node}:\n{result.log}")
            raise result.cause or ClusterError(f"{what} failed on node {result.node}: {result.message}")
        return result

    def _exclude(self, failure: Failure) -> None:
        """Give a node no more parts.

        Raises:
            ClusterError: No other node is left.
        """
        name = f"node {failure.node[:8]}"
        if self._nodes.exclude(failure.node):
            logger.warning(f"{name} gets no part of this run: {failure.message}")
        if not self._nodes.slots:
            raise ClusterError(f"no node of the cluster can train this run; {name}: {failure.message}")

    def _check_visible(self, result: PartResult) -> None:
        """Check that the files of the first part of each node have arrived in the store that this machine sees."""
        if result.node not in self._seen and result.files:
            self._seen.add(result.node)
            key = run_key(self._context.run_id, result.files[0].name)
            if not any(entry.key == key for entry in self._store.list_entries(key)):
                raise ClusterError(
                    f"{self._store.uri(key)} was put on node {result.node[:8]} and is not here; expected a directory "
                    "that all nodes share, or s3://bucket/prefix"
                )


def _task(
    part: Part, expected: Machine, only_check: bool, threads: int, context: PartContext, arrays: Sequence[Any]
) -> PartResult | Failure | Ready:
    """Train a part in a process of the cluster; see `mnist_bp.training.cluster_worker.train_here`."""
    import ray

    def read() -> Arrays:
        found: Arrays = ray.get(arrays[0])
        return found

    node = ray.get_runtime_context().get_node_id()
    return train_here(part, context, read, expected, threads, node, only_check=only_check)
