"""A run that is killed, at any moment and at each thing that it does to a disk or a server, and resumed.

Whenever that is: readers find whole runs alone, the run ends in the bits in which it would have ended, and gc leaves
nothing of it lying about.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from mnist_bp.config import RunConfig
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS, run_directory
from mnist_bp.registry.champion import list_champions, read_champion
from mnist_bp.registry.comparison import MODEL
from mnist_bp.registry.gc import collect
from mnist_bp.registry.retention import RetentionPolicy
from mnist_bp.registry.verify import verify
from mnist_bp.results import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.storage.files import PARTIAL_SUFFIX, TEMPORARY_SUFFIX, sha256_of_bytes
from mnist_bp.training.journal import Journal
from mnist_bp.training.loop import checkpoint_steps
from tests.conftest import data_dir_of
from tests.support.killed_runs import Nursery, Order
from tests.support.published_runs import run_id_of
from tests.support.s3_servers import S3Server, environment_of

DATASET = "mnist-sample"
CORES = 2

RANDOM_MOMENTS = 40
STAGES = ["nothing", "training", "trained", "uploading", "published", "promoted", "decided"]

Runs = Callable[[], Order]


@dataclass(frozen=True)
class Whole:
    """A run that nobody interrupted.

    Args:
        model: The SHA-256 of its model.
        events: What it did, in order.
        seconds: How long it took.
    """

    model: str
    events: tuple[str, ...]
    seconds: float


@pytest.fixture
def cold(tmp_path: Path) -> Runs:
    """Make orders for runs, each with a data directory and a store of its own, and nothing in them."""
    numbers = count(1)

    def order() -> Order:
        number = next(numbers)
        place = {"data_dir": str(tmp_path / f"data-{number}"), "artifacts": str(tmp_path / f"artifacts-{number}")}
        config = RunConfig(dataset=DATASET, steps=500, checkpoint_every=100, engine="cpu", **place)
        return Order(config, run_id_of(number))

    return order


@pytest.fixture
def warm(cold: Runs, sample_raw: RawDataset, sample: CachedDataset) -> Runs:
    """As `cold`, with the dataset downloaded and preprocessed."""

    def order() -> Order:
        order = cold()
        shutil.copytree(data_dir_of(sample_raw), order.config.data_dir)
        return order

    return order


def finish(nursery: Nursery, order: Order) -> Whole:
    """Make a run to its end."""
    (ending,) = nursery.make(order)
    assert ending.finished, ending.message
    return Whole(model_of(order), ending.events, ending.seconds)


def model_of(order: Order) -> str:
    return sha256_of_bytes(open_store(order.config.artifacts).get(f"{RUNS}{order.run_id}/{MODEL}"))


def stage_of(order: Order) -> str:
    """Tell how far a run has come."""
    store = open_store(order.config.artifacts)
    put = {entry.key.removeprefix(f"{RUNS}{order.run_id}/") for entry in store.list_entries(f"{RUNS}{order.run_id}/")}
    if PROMOTION in put:
        return "decided"
    if DATASET in list_champions(store):
        return "promoted"
    if put:
        return "published" if MANIFEST in put else "uploading"
    known = Journal(run_directory(order.config.data_dir, order.run_id)).read()
    if known is None:
        return "nothing"
    return "trained" if set(known.checkpoints) == set(checkpoint_steps(order.config)) else "training"


def assert_readers_find_nothing_wrong(order: Order) -> None:
    """No manifest names a missing or another file, no pointer anything but a whole run."""
    bad = [
        finding for finding in verify(open_store(order.config.artifacts), Path("nowhere"), all_runs=True) if finding.bad
    ]
    assert bad == []


def assert_as_if_never_killed(order: Order, whole: Whole) -> None:
    assert stage_of(order) == "decided"
    assert model_of(order) == whole.model
    store, data_dir = open_store(order.config.artifacts), Path(order.config.data_dir)
    assert [finding for finding in verify(store, data_dir, all_runs=True) if finding.status != "ok"] == []
    assert [change.run_id for change in read_champion(store, DATASET).history] == [order.run_id]


def assert_gc_leaves_nothing_lying_about(order: Order) -> None:
    store, data_dir = open_store(order.config.artifacts), Path(order.config.data_dir)
    collect(store, data_dir, RetentionPolicy(1, 1, timedelta()), now=datetime.now(UTC) + timedelta(hours=1))
    places = [data_dir, *([] if "://" in order.config.artifacts else [Path(order.config.artifacts)])]
    names = [path.name for place in places for path in place.rglob("*")]
    assert [name for name in names if name.endswith((TEMPORARY_SUFFIX, PARTIAL_SUFFIX)) or ".removed-" in name] == []
    assert_readers_find_nothing_wrong(order)


def stages_of_the_killed(nursery: Nursery, orders: Sequence[Order], whole: Whole) -> Iterator[str]:
    """Kill runs as ordered, look, resume them, and look again.

    Yields:
        How far each had come that was killed.
    """
    for start in range(0, len(orders), CORES):
        some = orders[start : start + CORES]
        for order, ending in zip(some, nursery.make(*some), strict=True):
            assert ending.killed or ending.finished, ending.message
            assert_readers_find_nothing_wrong(order)
            if ending.killed:
                yield stage_of(order)
        again = [replace(order, die_at=None, die_after=None) for order in some]
        for order, ending in zip(again, nursery.make(*again), strict=True):
            assert ending.finished, f"{order}: {ending.message}"
            assert_as_if_never_killed(order, whole)
            assert_gc_leaves_nothing_lying_about(order)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_killed_at_each_thing_it_does_to_the_disk_ends_as_if_it_never_was(nursery: Nursery, warm: Runs) -> None:
    whole = finish(nursery, warm())
    orders = [replace(warm(), die_at=number) for number in range(1, len(whole.events) + 1)]
    stages = list(stages_of_the_killed(nursery, orders, whole))
    assert len(stages) == len(orders) >= 80
    assert list(dict.fromkeys(stages)) == STAGES


def test_a_run_killed_while_it_makes_its_caches_builds_them_anew(nursery: Nursery, cold: Runs) -> None:
    whole = finish(nursery, cold())
    caches = next(number for number, event in enumerate(whole.events) if "journal" in event)
    orders = [replace(cold(), die_at=number) for number in range(1, caches + 1, 2)]
    assert set(stages_of_the_killed(nursery, orders, whole)) == {"nothing"}


def test_a_run_killed_at_random_moments_ends_as_if_it_never_was(nursery: Nursery, warm: Runs) -> None:
    whole = finish(nursery, warm())
    moments, rng = range(RANDOM_MOMENTS), random.Random(4)
    orders = [replace(warm(), die_after=whole.seconds * (each + rng.random()) / RANDOM_MOMENTS) for each in moments]
    stages = list(stages_of_the_killed(nursery, orders, whole))
    assert len(stages) >= RANDOM_MOMENTS // 2
    assert {"nothing", "training"} < set(stages)


def test_a_run_that_is_killed_again_and_again_gets_to_its_end(nursery: Nursery, warm: Runs) -> None:
    whole, order = finish(nursery, warm()), warm()
    for life in count(1):
        (ending,) = nursery.make(replace(order, die_at=24))
        if not ending.killed:
            break
        assert_readers_find_nothing_wrong(order)
        assert life < 50, f"no end, but {stage_of(order)}"
    assert ending.finished, ending.message
    assert life > 3
    assert_as_if_never_killed(order, whole)
    assert_gc_leaves_nothing_lying_about(order)


def test_a_run_killed_at_requests_to_a_server_ends_as_if_it_never_was(
    nursery: Nursery, warm: Runs, s3_server: S3Server, s3_bucket: str
) -> None:
    unsafe = not s3_server.honours_conditions

    def order() -> Order:
        given = warm()
        place = {"artifacts": f"s3://{s3_bucket}/{given.run_id}", "allow_unsafe_promotion": unsafe}
        config = given.config.model_copy(update=place)
        return replace(given, config=config, environment=environment_of(s3_server))

    whole = finish(nursery, order())
    requests = [number for number, event in enumerate(whole.events, 1) if event.startswith("http.client.send")]
    orders = [replace(order(), die_at=number) for number in requests[4 :: len(requests) // 5]]
    stages = list(stages_of_the_killed(nursery, orders, whole))
    assert len(stages) >= len(orders) - 2 >= 2
    assert {"uploading", "decided"} & set(stages)


def test_an_ending_that_nobody_waited_for_is_not_taken_for_the_next(nursery: Nursery, warm: Runs) -> None:
    """Or one test that takes too long would have all others fail."""
    nursery.ask(replace(warm(), die_at=1))
    (ending,) = nursery.make(warm())
    assert ending.finished, ending.message
