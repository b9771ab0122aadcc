"""What is refused before a Ray cluster is used, and what a process of a cluster checks.

tests/scenarios/test_ray.py uses a real cluster.
"""

from __future__ import annotations

import logging
import pickle
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnist_bp.config import RunConfig
from mnist_bp.errors import ClusterError, StoreError
from mnist_bp.pipeline import open_run
from mnist_bp.results import CachedDataset
from mnist_bp.training import cluster_worker, part_training, ray_runner
from mnist_bp.training.cluster_worker import Arrays, Failure, read_arrays, this_machine, train_here
from mnist_bp.training.parts import Part, PartContext, PartResult, cut_into_parts

SWEEP = RunConfig(dataset="mnist-sample", sweep="hidden=3,4", seeds="1..2", steps=20, checkpoint_every=20, runner="ray")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "RAY_ADDRESS is not set; expected HOST:PORT"),
        ("local", "expected HOST:PORT of a Ray cluster, such as 10.0.0.5:6379, or auto"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT of a Ray cluster"),
        ("127.0.0.1", "expected HOST:PORT of a Ray cluster"),
        ("127.0.0.1:99999", "no Ray cluster could be reached"),
    ],
)
def test_a_run_on_ray_without_the_address_of_a_cluster_is_refused_before_it_begins(
    address: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=expected):
        open_run(SWEEP)


def test_an_address_at_which_nothing_listens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        ray_runner.check_cluster()
    with pytest.raises(ClusterError, match="no Ray cluster could be reached"):
        ray_runner.check_cluster()


def test_without_the_package_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runner, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"pip install 'mnist-bp\[ray\]'"):
        ray_runner.check_cluster()


# ---------------------------------------------------------------------------------------------------------------------
# a process of a cluster


@pytest.fixture
def context(sample: CachedDataset, tmp_path: Path) -> PartContext:
    (tmp_path / "artifacts").mkdir()
    return PartContext(
        run_id="20261123T000000Z-00000000",
        artifacts=str(tmp_path / "artifacts"),
        train=sample.train,
        test=sample.test,
        shape=sample.shape,
        held_out=300,
        engine="cpu",
        device="cpu",
        about={},
    )


def read_only(arrays: Arrays) -> Arrays:
    for array in arrays:
        array.flags.writeable = False
    return arrays


def test_a_part_is_trained_from_read_only_memory_to_the_bytes_of_the_local_runner(
    context: PartContext, tmp_path: Path
) -> None:
    part, other = cut_into_parts(SWEEP)[0], tmp_path / "other"
    found = train_here(part, context, read_only(read_arrays(context)), this_machine(context), 1, "node a")
    assert isinstance(found, PartResult)
    assert found.node == "node a"
    elsewhere = replace(context, artifacts=str(other))
    put = part_training.put_into_store(elsewhere)
    assert part_training.train_part(part, part_training.load_part_data(elsewhere), 2, put).files == found.files


class LosingRay(ModuleType):
    """Stands for Ray and a cluster of one node that loses the process of every task."""

    class exceptions:  # noqa: N801 - as in Ray
        class RayTaskError(Exception):
            pass

        class RayError(Exception):
            pass

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.init = self.shutdown = self.put = lambda *_, **__: None
        self.nodes = lambda: [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 1.0}}]
        task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: object()))
        self.remote = lambda **_: lambda _function: task
        self.submitted = 0

    def wait(self, references: list[object], **_: object) -> tuple[list[object], list[object]]:
        self.submitted += 1
        return references, []

    def get(self, _reference: object) -> None:
        raise self.exceptions.RayError


def test_a_cluster_that_loses_every_process_is_given_up(context: PartContext, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, private = LosingRay(), ModuleType("ray._private")
    private.worker = ModuleType("worker")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray._private", private)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(
            ClusterError, match="no node could be checked, 8 processes were lost; the last one: RayError"
        ):
            list(ray_runner.RayRunner().run(cut_into_parts(SWEEP), context))
    assert ray.submitted == ray_runner.MAX_ATTEMPTS


Change = Callable[[PartContext, Any], Any]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda context, here: (context, here._replace(code="0" * 64)), "other code (digest"),
        (lambda context, here: (context, here._replace(fingerprint="0" * 64)), "it computes other bits (fingerprint"),
        (
            lambda context, here: (replace(context, artifacts=f"{context.artifacts}/absent"), here),
            "/absent; expected a directory that all nodes share",
        ),
    ],
)
def test_a_machine_with_other_code_other_bits_or_no_store_trains_nothing(
    change: Change, expected: str, context: PartContext
) -> None:
    of, machine = change(context, this_machine(context))
    found = train_here(cut_into_parts(SWEEP)[0], of, read_arrays(context), machine, 1, "node a")
    assert isinstance(found, Failure)
    assert found.kind == "machine"
    assert expected in found.message
    assert not list(Path(context.artifacts).rglob("part-*"))


def test_a_failing_part_returns_its_log_and_traceback_whole_and_its_error_survives_the_way(
    context: PartContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(part: Part, *rest: Any) -> PartResult:
        logging.getLogger("mnist_bp.training.anything").info("before\nit failed")
        raise StoreError("the disk is full")

    monkeypatch.setattr(cluster_worker, "train_part", fail)
    arrays = Arrays(*(np.copy(array) for array in read_arrays(context)))
    found = train_here(cut_into_parts(SWEEP)[0], context, arrays, this_machine(context), 1, "node a")
    found = pickle.loads(pickle.dumps(found))
    assert isinstance(found, Failure)
    assert isinstance(found.cause, StoreError)
    assert str(found.cause) == found.message == "the disk is full"
    assert "before\nit failed" in found.log
    assert "Traceback (most recent call last)" in found.log
    assert ", in fail\n" in found.log
