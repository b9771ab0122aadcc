"""Runs on two datasets of one name: more images of the same kind are a retraining, other ones are not compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from mnist_bp.errors import ConfigError
from mnist_bp.registry.comparison import PublishedModel, read_published_model
from mnist_bp.registry.run_comparison import check_comparable
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape
from tests.support.challenges import KEY, challenge
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import publish

LETTERS = DatasetShape(28, 28, tuple("abcdefghij"))


def published(store: MemoryStore, run_id: str, right: int, **changes: Any) -> PublishedModel:
    """Publish a run on a dataset named mnist that differs from MNIST; see `challenges.publish_model`."""
    contents = {"model.safetensors": str(right).encode()}
    publish(store, run_id, contents=contents, changes={"dataset": {"key": KEY, **changes}})
    return read_published_model(store, run_id)


@pytest.mark.parametrize(
    ("shape", "difference"),
    [
        (LETTERS, "with other classes, such as 0 and a"),
        (DatasetShape(28, 28, tuple("abc")), "with 10 and 3 classes"),
        (DatasetShape(8, 9, MNIST_SHAPE.class_names), "with images of 28 x 28 and of 9 x 8 pixels"),
    ],
)
def test_models_of_other_images_or_classes_are_not_compared(shape: DatasetShape, difference: str) -> None:
    store = MemoryStore()
    first = published(store, "a", 100)
    assert challenge(store, first).outcome == "promoted"
    other = published(store, "b", 900, shape=asdict(shape))
    promotion = challenge(store, other)
    assert (promotion.outcome, promotion.champion_after, promotion.figures) == ("refused", "a", None)
    assert f"a, was trained on another dataset of that name, {difference}: name the directory" in promotion.reason
    with pytest.raises(ConfigError, match=f"two datasets named mnist, {difference}: expected two runs"):
        check_comparable(first, other)


def test_other_images_of_the_same_size_and_classes_are_a_retraining() -> None:
    store = MemoryStore()
    first = published(store, "a", 100, key="of-yesterday", shape=asdict(LETTERS))
    assert challenge(store, first).outcome == "promoted"
    more = published(store, "b", 900, shape=asdict(LETTERS), skipped=3, test_split={"one_in": 7, "seed": 1})
    assert challenge(store, more).outcome == "promoted"
    check_comparable(first, more)
    assert (more.manifest.dataset.skipped, more.manifest.dataset.shape) == (3, LETTERS)


def test_the_manifest_of_a_known_dataset_has_no_new_field() -> None:
    manifest = published(MemoryStore(), "a", 1).manifest
    fields = {"name", "notice", "key", "train_examples", "test_examples", "sources", "parquet"}
    assert manifest.model_dump(mode="json")["dataset"].keys() == fields
    assert (manifest.dataset.shape, manifest.dataset.skipped) == (MNIST_SHAPE, 0)
