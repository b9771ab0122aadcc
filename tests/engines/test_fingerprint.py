"""The fingerprint of an engine on a machine."""

from __future__ import annotations

from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.fingerprint import fingerprint
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import DatasetShape


def test_a_fingerprint_is_the_same_each_time_and_that_of_another_engine_differs() -> None:
    assert fingerprint(CpuEngine()) == fingerprint(CpuEngine()) != fingerprint(ReferenceEngine("cpu"))


def test_a_fingerprint_is_of_the_size_and_the_number_of_classes_that_are_trained() -> None:
    shapes = (
        DatasetShape(28, 28, tuple("0123456789")),
        DatasetShape(28, 28, ("a", "b")),
        DatasetShape(9, 5, ("a", "b")),
    )
    assert len({fingerprint(CpuEngine(), shape) for shape in shapes}) == 3


def test_a_fingerprint_is_of_the_equations_and_the_sizes_that_are_trained() -> None:
    own = (
        fingerprint(CpuEngine()),
        fingerprint(CpuEngine(), recipe=Recipe(loss="cross_entropy")),
        fingerprint(CpuEngine(), recipe=Recipe(activation="relu")),
        fingerprint(CpuEngine(), recipe=Recipe(bias_gradient="sum")),
        fingerprint(CpuEngine(), recipe=Recipe(initial="scaled")),
        fingerprint(CpuEngine(), hidden=31),
        fingerprint(CpuEngine(), batch_size=9),
    )
    assert len(set(own)) == len(own)
