"""What a process of a cluster does with a part."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_bp.config import RunConfig
from mnist_bp.errors import StoreError
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training import cluster_worker, part_training
from mnist_bp.training.cluster_worker import Arrays, Failure, Ready, read_arrays, this_machine, train_here
from mnist_bp.training.parts import Part, PartContext, PartResult, cut_into_parts
from tests.support.part_context import context_of

SWEEP = RunConfig(dataset="mnist-sample", sweep="hidden=3,4", seeds="1..2", steps=20, checkpoint_every=20, runner="ray")
PART, OTHER = cut_into_parts(SWEEP)


@pytest.fixture
def context(sample: CachedDataset, tmp_path: Path) -> PartContext:
    (tmp_path / "artifacts").mkdir()
    return context_of(sample, tmp_path / "artifacts")


def read_only(arrays: Arrays) -> Arrays:
    for array in arrays:
        array.flags.writeable = False
    return arrays


def test_a_part_is_trained_from_read_only_memory_to_the_bytes_of_the_local_runner(
    context: PartContext, tmp_path: Path
) -> None:
    part, other = PART, tmp_path / "other"
    found = train_here(part, context, lambda: read_only(read_arrays(context)), this_machine(PART, context), 1, "node a")
    assert isinstance(found, PartResult)
    assert found.node == "node a"
    elsewhere = replace(context, artifacts=str(other))
    put = part_training.put_into_store(elsewhere)
    assert part_training.train_part(part, part_training.load_part_data(elsewhere), 2, put).files == found.files


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
    of, machine = change(context, this_machine(PART, context))
    found = train_here(PART, of, lambda: read_arrays(context), machine, 1, "node a")
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
    found = train_here(PART, context, lambda: arrays, this_machine(PART, context), 1, "node a")
    found = pickle.loads(pickle.dumps(found))
    assert isinstance(found, Failure)
    assert isinstance(found.cause, StoreError)
    assert str(found.cause) == found.message == "the disk is full"
    assert "before\nit failed" in found.log
    assert "Traceback (most recent call last)" in found.log
    assert ", in fail\n" in found.log


def test_a_machine_is_checked_for_the_sizes_and_the_equations_of_each_part(context: PartContext) -> None:
    relu = replace(PART, config={**PART.config, "activation": "relu"})
    batches = replace(PART, config={**PART.config, "batch_size": 7})
    parts = PART, OTHER, relu, batches
    assert len({this_machine(part, context).fingerprint for part in parts}) == 4
    found = train_here(OTHER, context, lambda: read_arrays(context), this_machine(PART, context), 1, "a")
    assert isinstance(found, Failure)
    assert "other bits" in found.message


def test_parts_that_differ_in_what_an_engine_is_given_have_one_fingerprint(context: PartContext) -> None:
    slower = replace(PART, config={**PART.config, "learning_rate": 0.1, "steps": 30, "schedule": "linear", "shift": 2})
    assert this_machine(slower, context) == this_machine(PART, context)


def test_a_machine_that_is_only_checked_trains_nothing(context: PartContext) -> None:
    expected = this_machine(PART, context)
    assert train_here(PART, context, lambda: read_arrays(context), expected, 1, "a", only_check=True) == Ready("a")
    assert not list(Path(context.artifacts).rglob("part-*"))
