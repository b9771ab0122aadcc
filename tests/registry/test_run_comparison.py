"""Two runs side by side: what differs, McNemar's test, and the images that one alone reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from mnist_bp.errors import ConfigError
from mnist_bp.layout import MODEL
from mnist_bp.registry.comparison import PublishedModel, read_published_model
from mnist_bp.registry.gate import Classes
from mnist_bp.registry.run_comparison import compare_runs
from mnist_bp.report.comparison import CheckpointPair, DisputedImage, Setting
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import KEY, checkpoint, publish, run_id_of

LABELS = np.array([0, 1, 2, 5, 0, 1, 2, 5, 0, 1])
A = np.array([0, 1, 2, 5, 0, 0, 0, 0, 0, 0])
B = np.array([0, 1, 1, 0, 0, 1, 1, 5, 0, 1])
"""Six are right of A and seven of B; 2 and 3 only of A; 5, 7 and 9 only of B; 6 of neither."""


class FixedPredictor:
    """Predicts the same classes for the runs with the numbers 1 and 2, whatever their models are."""

    labels: Classes = LABELS

    def __init__(self, key: str = KEY) -> None:
        self.key = key

    def predict(self, model: PublishedModel) -> Classes:
        return {run_id_of(1): A, run_id_of(2): B}[model.run_id]


def published(
    store: MemoryStore, number: int, dataset: str = "mnist", changes: Mapping[str, Any] | None = None
) -> PublishedModel:
    run_id = publish(store, number, dataset, contents={MODEL: b"weights"}, changes=changes)
    return read_published_model(store, run_id)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_each_image_is_counted_once_and_those_that_one_alone_reads_are_listed(store: MemoryStore) -> None:
    found = compare_runs(published(store, 1), published(store, 2), FixedPredictor())
    test = found.mcnemar
    assert (test.both_right, test.neither_right, test.a_alone_right, test.b_alone_right) == (4, 1, 2, 3)
    assert (found.a.accuracy, found.b.accuracy, test.test_images) == (0.6, 0.7, 10)
    assert found.a_alone == (DisputedImage(2, 2, 2, 1), DisputedImage(3, 5, 5, 0))
    assert found.b_alone == (DisputedImage(5, 1, 0, 1), DisputedImage(7, 5, 0, 5), DisputedImage(9, 1, 0, 1))
    assert [(each.images, each.a, each.b) for each in found.classes] == [
        (3, 1.0, 1.0), (3, 1 / 3, 1.0), (2, 0.5, 0.0), (0, None, None), (0, None, None), (2, 0.5, 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 5), (5, 0), (4, 4), (3, 11), (40, 25)])
def test_p_is_that_of_the_exact_two_sided_binomial_test_and_the_same_in_both_orders(
    only_a: int, only_b: int, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros(100, np.int64)
    a, b = labels.copy(), labels.copy()
    a[:only_b], b[only_b : only_a + only_b] = 1, 1
    monkeypatch.setattr(FixedPredictor, "labels", labels)
    monkeypatch.setattr(FixedPredictor, "predict", lambda _, model: a if model.run_id == run_id_of(1) else b)
    first, second = (published(store, number) for number in (1, 2))
    found, turned = (compare_runs(*runs, FixedPredictor()) for runs in ((first, second), (second, first)))
    assert (found.mcnemar.a_alone_right, found.mcnemar.b_alone_right) == (only_a, only_b)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert found.mcnemar.p_value == turned.mcnemar.p_value == pytest.approx(expected, rel=1e-12)


def test_the_verdict_names_the_better_run_and_both_counts(store: MemoryStore) -> None:
    first, second = (published(store, number) for number in (1, 2))
    assert compare_runs(first, second, FixedPredictor()).verdict == (
        "B classifies 1 of 10 test images more correctly (+0.1000): 2 that only A does, 3 that only B does; p = 1 "
        "(McNemar, exact, two-sided)"
    )
    assert compare_runs(second, first, FixedPredictor()).verdict.startswith("A classifies 1 of 10 test images more")


def test_settings_that_differ_are_listed_without_places_and_with_what_was_used(store: MemoryStore) -> None:
    config = {"seed": 2, "data_dir": "elsewhere", "artifacts": "elsewhere", "shift": 1}
    code = {"version": "9.9", "sha256": "f" * 64}
    a = published(store, 1, changes={"config": {"data_dir": "data"}})
    b = published(store, 2, changes={"config": config, "engine": "cuda", "code": code})
    settings = {each.name: each for each in compare_runs(a, b, FixedPredictor()).settings}
    assert sorted(settings) == ["code", "code, SHA-256", "engine used", "seed", "shift"]
    assert settings["seed"] == Setting("seed", 1, 2)
    assert settings["shift"] == Setting("shift", None, 1)
    assert settings["engine used"] == Setting("engine used", "cpu", "cuda")
    assert settings["code, SHA-256"].b == "f" * 12


def test_runs_made_alike_differ_in_no_setting(store: MemoryStore) -> None:
    assert compare_runs(published(store, 1), published(store, 2), FixedPredictor()).settings == ()


def test_checkpoints_are_paired_by_step(store: MemoryStore) -> None:
    points = [checkpoint(step, 0.5, 1).model_dump(mode="json") for step in (1_000, 1_500)]
    a, b = published(store, 1), published(store, 2, changes={"checkpoints": points})
    (first, second, third) = compare_runs(a, b, FixedPredictor()).checkpoints
    assert (first.step, first.accuracy_a, first.accuracy_b) == (1_000, a.manifest.checkpoints[0].accuracy, 0.5)
    loss = b.manifest.checkpoints[1].loss
    assert second == CheckpointPair(1_500, accuracy_a=None, accuracy_b=0.5, loss_a=None, loss_b=loss)
    assert (third.step, third.accuracy_b) == (2_000, None)


def test_losses_of_two_kinds_and_other_test_images_are_noted(store: MemoryStore) -> None:
    a, b = published(store, 1), published(store, 2, changes={"config": {"loss": "cross_entropy"}})
    same = compare_runs(a, a_twin := published(store, 3), _Twins())
    assert (same.notes, same.same_loss, a_twin.dataset) == ((), True, "mnist")
    found = compare_runs(a, b, FixedPredictor(key="that of today"))
    assert not found.same_loss
    assert [note[:30] for note in found.notes] == ["the losses are of two kinds, s", "compared on the present test i"]
    assert found.notes[1].endswith("which are not those that A and B were evaluated on")


class _Twins(FixedPredictor):
    def predict(self, model: PublishedModel) -> Classes:
        return A


def test_runs_of_two_datasets_and_one_run_are_refused(store: MemoryStore) -> None:
    a, other = published(store, 1), published(store, 2, "kmnist")
    with pytest.raises(ConfigError, match=f"{run_id_of(1)} is a run of mnist and {run_id_of(2)} one of kmnist: their"):
        compare_runs(a, other, FixedPredictor())
    with pytest.raises(ConfigError, match=f"both names are of run {run_id_of(1)}: expected two runs"):
        compare_runs(a, a, FixedPredictor())
