"""Which parts are submitted to a cluster, how often, and to which nodes.

A fake of the functions of Ray that are used stands for a cluster; tests/scenarios/test_ray.py uses a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_bp.config import RunConfig
from mnist_bp.errors import ClusterError, StoreError
from mnist_bp.layout import run_key
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.evaluation import ScoreColumns
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training import ray_nodes, ray_runner
from mnist_bp.training.cluster_worker import Failure, Ready
from mnist_bp.training.parts import Part, PartContext, PartFile, PartResult, cut_into_parts
from mnist_bp.training.ray_runner import MAX_ATTEMPTS, TASKS_PER_SLOT, ClusterRun
from tests.support.part_context import context_of

SWEEP = RunConfig(
    dataset="mnist-sample", sweep="hidden=3,4,5,6,7,8,9,10,11,12", seeds="1..2", steps=20, checkpoint_every=20
)
PARTS = cut_into_parts(SWEEP)


@pytest.fixture
def context(sample: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartContext:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    monkeypatch.setattr(ray_runner, "POLL_S", 0.0)
    monkeypatch.setattr(ray_nodes, "LIST_S", 0.0)
    return context_of(sample, tmp_path / "artifacts")


def trained(part: Part, node: str, files: Sequence[PartFile] = ()) -> PartResult:
    zeros = np.zeros((1, 2))
    scores = ScoreColumns(zeros, zeros, zeros, zeros, np.zeros((1, 2, 10)))
    return PartResult(part.number, tuple(files), scores, 0.0, 0.0, 0.0, node)


def good(part: Part, node: str) -> PartResult:
    return trained(part, node)


Behaviour = Callable[[Part, str], Any]
"""What a node does with a part."""


class exceptions:  # noqa: N801 - as in Ray
    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        pass


@dataclass(eq=False)
class Reference:
    """A submitted task.

    Args:
        part: Its part.
        only_check: Whether it trains nothing.
        excluded: Nodes that must not run it.
        ran_on: The node that runs it, once it does.
    """

    part: Part
    only_check: bool
    excluded: Sequence[str]
    ran_on: str | None = None


class FakeRay:
    """Stands for Ray and a cluster whose nodes run tasks by turns, in the order of their submission.

    Args:
        behaviour: Of each node, by name; it returns the result of a task, or an exception that `ray.get` raises.
    """

    exceptions = exceptions

    def __init__(self, **behaviour: Behaviour) -> None:
        self.behaviour, self.gpus, self.busy, self.done_at_once = dict(behaviour), 0, False, 1
        self.submitted: list[Reference] = []
        self.cancelled: list[Reference] = []
        self.most_in_flight = 0
        self._turn = 0

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"CPU": 1.0, "GPU": self.gpus}
        return [{"Alive": True, "NodeID": name, "Resources": resources} for name in self.behaviour]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(len(self.behaviour)), "GPU": self.gpus}

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 0.0 if self.busy else float(len(self.behaviour))}

    def put(self, value: object) -> object:
        return value

    def remote(self, **resources: Any) -> Callable[[object], FakeRay]:
        return lambda function: self

    def options(self, scheduling_strategy: str, label_selector: dict[str, str] | None) -> Submission:
        return Submission(self, label_selector)

    def wait(self, references: list[Reference], **_: Any) -> tuple[list[Reference], list[Reference]]:
        self.most_in_flight = max(self.most_in_flight, len(references))
        done = 0 if self.busy or not self.behaviour else self.done_at_once
        return references[:done], references[done:]

    def get(self, reference: Reference) -> Any:
        able = [name for name in self.behaviour if name not in reference.excluded]
        self._turn += 1
        reference.ran_on = able[self._turn % len(able)]
        found = self.behaviour[reference.ran_on](reference.part, reference.ran_on)
        if isinstance(found, Exception):
            raise found
        return Ready(reference.ran_on) if reference.only_check and isinstance(found, PartResult) else found

    def cancel(self, reference: Reference, force: bool) -> None:
        self.cancelled.append(reference)


@dataclass
class Submission:
    ray: FakeRay
    selector: dict[str, str] | None

    def remote(self, part: Part, expected: Any, only_check: bool, *rest: Any) -> Reference:
        listed = self.selector["ray.io/node-id"].removeprefix("!in(").removesuffix(")") if self.selector else ""
        self.ray.submitted.append(Reference(part, only_check, listed.split(",") if listed else []))
        return self.ray.submitted[-1]


def run(ray: FakeRay, context: PartContext) -> Iterator[PartResult]:
    """Train all parts as `RayRunner` does once it is connected."""
    cluster = ClusterRun(ray, context)
    cluster.find_node(PARTS[0])
    yield from cluster.results(PARTS)


def other_bits(part: Part, node: str) -> Failure:
    return Failure("machine", "it computes other bits", "", node)


def lost(part: Part, node: str) -> Exception:
    return exceptions.RayError("the process was killed. Its node was a.\nmore")


def test_a_node_that_cannot_train_gets_no_more_parts_and_the_others_train_all(
    context: PartContext, caplog: pytest.LogCaptureFixture
) -> None:
    ray = FakeRay(good=good, bad=other_bits)
    results = list(run(ray, context))
    assert sorted(result.number for result in results) == [part.number for part in PARTS]
    assert {result.node for result in results} == {"good"}
    first = next(place for place, each in enumerate(ray.submitted) if each.ran_on == "bad")
    later = ray.submitted[first + 2 * TASKS_PER_SLOT :]  # those that were not in flight then
    assert later
    assert all(each.excluded == ["bad"] for each in later)
    assert [record.message for record in caplog.records] == [
        "node bad gets no part of this run: it computes other bits"
    ]


@pytest.mark.parametrize("joining", [good, other_bits])
def test_a_node_that_joins_later_is_used_or_excluded(context: PartContext, joining: Behaviour) -> None:
    ray = FakeRay(first=good)
    results = run(ray, context)
    found = [next(results)]
    ray.behaviour["later"] = joining
    found += results
    assert sorted(result.number for result in found) == [part.number for part in PARTS]
    assert ("later" in {result.node for result in found}) == (joining is good)
    assert any(each.ran_on == "later" for each in ray.submitted)
    assert (ray.submitted[-1].excluded == ["later"]) == (joining is other_bits)
    assert TASKS_PER_SLOT < ray.most_in_flight <= 2 * TASKS_PER_SLOT


def test_a_cluster_whose_nodes_all_differ_is_refused_with_the_reason(context: PartContext) -> None:
    with pytest.raises(ClusterError, match=r"no node of the cluster can train this run; node [ab]: it computes other"):
        list(run(FakeRay(a=other_bits, b=other_bits), context))


def test_a_lost_part_is_trained_again_after_those_that_wait(
    context: PartContext, caplog: pytest.LogCaptureFixture
) -> None:
    losses = iter([None, lost, lost])

    def sometimes(part: Part, node: str) -> Any:
        loss = next(losses, None) if part.number == 0 else None
        return good(part, node) if loss is None else loss(part, node)

    ray = FakeRay(a=sometimes)
    numbers = [result.number for result in run(ray, context)]
    assert sorted(numbers) == [part.number for part in PARTS]
    assert numbers[-1] == 0
    again = "part 0 is trained again: RayError: the process was killed"
    assert [record.message for record in caplog.records] == [again, again]


def test_a_part_that_is_lost_each_time_ends_the_run(context: PartContext) -> None:
    ray = FakeRay(a=lambda part, node: lost(part, node) if part.number == 3 else good(part, node))
    with pytest.raises(
        ClusterError, match=r"part 3 was lost 8 times; the last time: RayError: the process was killed$"
    ):
        list(run(ray, context))
    assert sum(each.part.number == 3 for each in ray.submitted) == MAX_ATTEMPTS


def test_a_cluster_that_loses_every_process_is_given_up(context: PartContext) -> None:
    ray = FakeRay(a=lost)
    with pytest.raises(ClusterError, match=r"no node could be checked, 8 processes were lost; the last: RayError: the"):
        list(run(ray, context))
    assert [each.only_check for each in ray.submitted] == [True] * MAX_ATTEMPTS


def test_files_that_a_node_put_elsewhere_end_the_run(context: PartContext) -> None:
    elsewhere = PartFile("checkpoints/step-0000020/part-00000.safetensors", "0" * 64, 1)
    ray = FakeRay(a=lambda part, node: trained(part, node, [elsewhere]))
    with pytest.raises(ClusterError, match=r"part-00000.safetensors was put on node a and is not here; expected a dir"):
        list(run(ray, context))


def test_files_that_arrived_are_looked_for_once_for_each_node(context: PartContext) -> None:
    content = b"weights"

    def puts_once(part: Part, node: str) -> PartResult:
        file = PartFile(f"checkpoints/step-0000020/part-{part.number:05}.safetensors", sha256_of_bytes(content), 7)
        path = Path(context.artifacts, run_key(context.run_id, file.name))
        if not seen:
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        seen.append(node)
        return trained(part, node, [file])

    seen: list[str] = ["the check"]
    ray = FakeRay(a=puts_once)
    cluster = ClusterRun(ray, context)
    cluster.find_node(PARTS[0])
    seen.clear()
    assert len(list(cluster.results(PARTS))) == len(PARTS)


def test_a_failing_part_raises_its_own_error_and_its_log_is_logged_whole(
    context: PartContext, caplog: pytest.LogCaptureFixture
) -> None:
    cause = StoreError("the disk is full")

    def fail(part: Part, node: str) -> Any:
        return good(part, node) if part.number == 0 else Failure("error", str(cause), "first\nsecond\n", node, cause)

    with pytest.raises(StoreError, match=r"the disk is full"):
        list(run(FakeRay(a=fail), context))
    assert "failed on node a:\nfirst\nsecond\n" in caplog.text


def test_parts_that_are_done_when_another_fails_are_kept(context: PartContext) -> None:
    def fail(part: Part, node: str) -> Any:
        return Failure("error", "full", "", node, StoreError("full")) if part.number == 1 else good(part, node)

    ray = FakeRay(a=fail)
    ray.done_at_once = TASKS_PER_SLOT
    results = run(ray, context)
    assert [next(results).number for _ in range(3)] == [0, 2, 3]
    with pytest.raises(StoreError, match="full"):
        next(results)


def test_a_task_that_cannot_be_run_names_its_last_line(context: PartContext) -> None:
    broken = exceptions.RayTaskError("Traceback\nModuleNotFoundError: No module named 'mnist_bp'")
    with pytest.raises(
        ClusterError, match=r"a check could not be run on a node: ModuleNotFoundError: .*; expected the"
    ):
        list(run(FakeRay(a=lambda part, node: broken), context))


def test_a_cluster_without_a_free_cpu_is_given_up(context: PartContext, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(a=good, b=good)
    ray.busy = True
    with pytest.raises(
        ClusterError, match=r"no free CPU within 60 s; 10.0.0.5:6379 has 2 CPUs, 0 of them free, and 0 GP"
    ):
        list(run(ray, context))
    assert ray.cancelled == ray.submitted


def test_a_run_that_finds_no_free_cpu_at_once_logs_what_it_waits_for(
    context: PartContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mnist_bp")
    ray = FakeRay(a=good)
    ray.busy = True
    with pytest.raises(ClusterError):
        list(run(ray, context))
    assert caplog.messages == [
        "train       waiting for a free CPU: 10.0.0.5:6379 has 1 CPU, 0 of them free, and 0 GPUs"
    ]


def test_a_node_that_is_lost_is_logged_once(context: PartContext, caplog: pytest.LogCaptureFixture) -> None:
    ray = FakeRay(a=good, b=good)
    alive = ray.nodes
    results = run(ray, context)
    next(results)
    ray.nodes = lambda: [{**node, "Alive": node["NodeID"] == "a"} for node in alive()]  # type: ignore[method-assign]
    list(results)
    assert caplog.messages == ["node b was lost; the others train its parts again"]


def test_a_run_that_waits_for_other_runs_logs_that_the_cluster_is_busy(
    context: PartContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_runner, "SILENT_S", 0.0)
    caplog.set_level("INFO", "mnist_bp")
    ray = FakeRay(a=good)
    cluster = ClusterRun(ray, context)
    look = ray.wait

    def busy_at_first(references: list[Reference], **options: Any) -> tuple[list[Reference], list[Reference]]:
        ray.busy = not caplog.messages
        return look(references, **options)

    ray.wait = busy_at_first  # type: ignore[method-assign]
    assert len(list(cluster.results(PARTS))) == len(PARTS)
    assert caplog.messages[0] == (
        "train       no part has ended for 0 s; 10.0.0.5:6379 has 1 CPU, 0 of them free, and 0 GPUs"
    )


def test_a_cluster_that_loses_all_its_nodes_is_given_up(context: PartContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runner, "FREE_TIMEOUT_S", 0.01)
    ray = FakeRay(a=good)
    results = run(ray, context)
    next(results)
    ray.behaviour.clear()
    with pytest.raises(ClusterError, match=r"the cluster has had no usable node for 0 s; 10.0.0.5:6379 has 0 CPUs"):
        list(results)


def test_the_engine_cuda_on_a_cluster_without_gpus_is_refused(context: PartContext) -> None:
    with pytest.raises(
        ClusterError, match=r"the cluster has no GPU, which the engine cuda needs; 10.0.0.5:6379 has 1 CPU"
    ):
        ClusterRun(FakeRay(a=good), replace(context, engine="cuda", device="cuda"))


def test_a_cluster_without_nodes_is_refused(context: PartContext) -> None:
    with pytest.raises(ClusterError, match=r"the cluster has no CPU; 10.0.0.5:6379 has 0 CPUs"):
        ClusterRun(FakeRay(), context)
