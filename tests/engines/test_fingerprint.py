"""The fingerprint of an engine on a machine."""

from __future__ import annotations

from typing import Any

from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.fingerprint import fingerprint
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape


def fingerprint_of(
    engine: Engine,
    shape: DatasetShape = MNIST_SHAPE,
    *,
    hidden: int = 30,
    batch_size: int = 10,
    **recipe: Any,
) -> str:
    """Return the fingerprint of the lab's models, with these changes."""
    return fingerprint(engine, shape, hidden, batch_size, Recipe(**recipe))


def test_a_fingerprint_is_the_same_each_time_and_that_of_another_engine_differs() -> None:
    assert fingerprint_of(CpuEngine()) == fingerprint_of(CpuEngine()) != fingerprint_of(ReferenceEngine("cpu"))


def test_a_fingerprint_is_of_the_size_and_the_number_of_classes_that_are_trained() -> None:
    shapes = (
        DatasetShape(28, 28, tuple("0123456789")),
        DatasetShape(28, 28, ("a", "b")),
        DatasetShape(9, 5, ("a", "b")),
    )
    assert len({fingerprint_of(CpuEngine(), shape) for shape in shapes}) == 3


def test_a_fingerprint_is_of_the_equations_and_the_sizes_that_are_trained() -> None:
    own = (
        fingerprint_of(CpuEngine()),
        fingerprint_of(CpuEngine(), loss="cross_entropy"),
        fingerprint_of(CpuEngine(), activation="relu"),
        fingerprint_of(CpuEngine(), bias_gradient="sum"),
        fingerprint_of(CpuEngine(), initial="scaled"),
        fingerprint_of(CpuEngine(), hidden=31),
        fingerprint_of(CpuEngine(), batch_size=9),
    )
    assert len(set(own)) == len(own)
