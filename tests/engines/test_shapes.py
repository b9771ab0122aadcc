"""The certificate for images of any size and any number of classes: each engine passes it, and an error fails it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mnist_bp.engines import numba_cache
from mnist_bp.engines.certificate import certify
from mnist_bp.engines.certificate_cache import certified
from mnist_bp.engines.certificate_data import synthetic_digits
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.interface import Batches, Engine, ResidentData
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import FloatArray, Model, UInt8Array
from mnist_bp.model.recipe import Activation, Recipe
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape
from mnist_bp.training.shifts import check_shift

LAB = Recipe()
RELU = Recipe(initial="scaled", loss="cross_entropy", activation="relu")


def shape_of(height: int, width: int, classes: int) -> DatasetShape:
    return DatasetShape(height, width, tuple(map(str, range(classes))))


@pytest.mark.parametrize(
    ("engine", "shape", "hidden", "batch_size", "recipe"),
    [
        pytest.param(CpuEngine(), shape_of(8, 8, 10), 30, 10, LAB, id="8 x 8"),
        pytest.param(ReferenceEngine(), shape_of(6, 9, 18), 30, 10, LAB, id="reference"),
        pytest.param(CpuEngine(), shape_of(8, 8, 10), 128, 32, RELU, id="8 x 8, relu"),
        pytest.param(CpuEngine(), shape_of(5, 7, 3), 7, 1, replace(RELU, shift=2), id="5 rows of 7, moved by 2"),
        pytest.param(CpuEngine(), shape_of(1, 2, 2), 30, 10, LAB, id="two pixels"),
        pytest.param(CpuEngine(), shape_of(16, 12, 62), 30, 10, RELU, id="62 classes"),
        pytest.param(CpuEngine(), shape_of(40, 40, 256), 30, 10, RELU, id="256 classes, relu"),
        pytest.param(
            CpuEngine(), shape_of(40, 20, 17), 33, 10, replace(LAB, shift=3), id="800 pixels, 17 classes, moved by 3"
        ),
    ],
)
def test_an_engine_passes_its_certificate_for_other_images_and_classes(
    engine: Engine, shape: DatasetShape, hidden: int, batch_size: int, recipe: Recipe
) -> None:
    certificate = certify(engine, hidden=hidden, batch_size=batch_size, recipe=recipe, steps=30, of=shape)
    assert certificate.failures == []
    assert certificate.shape == {
        "inputs": shape.inputs, "hidden": hidden, "classes": shape.classes, "batch_size": batch_size
    }  # fmt: skip


def test_images_larger_than_mnist_have_a_certificate_in_little_memory() -> None:
    examples = synthetic_digits(0, shape_of(512, 512, 2))
    assert examples.images.nbytes < 150_000_000
    assert len(examples.rows) == len(set(examples.rows.tolist())) >= 32
    certificate = certify(CpuEngine(), hidden=3, batch_size=50, recipe=RELU, steps=2, of=shape_of(64, 80, 3))
    assert certificate.failures == []


@dataclass(frozen=True)
class WrongFromClass16On:
    """An engine that trains classes from the 17th on as if they had none of the images."""

    name: str = "wrong"
    device: str = "cpu"

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ResidentData:
        return WrongData(CpuEngine().load(images, labels, classes))


@dataclass(frozen=True)
class WrongData:
    right: ResidentData

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], recipe: Recipe) -> list[Model]:
        after = self.right.advance(models, batches, recipe)
        for model, start in zip(after, models, strict=True):
            model.W2[:, 16:] = start.W2[:, 16:]
        return after

    def predict(self, model: Model, activation: Activation, scale: float = 1 / 255) -> FloatArray:
        return self.right.predict(model, activation, scale)


def test_an_error_in_classes_that_mnist_does_not_have_fails_the_certificate_of_a_dataset_that_has_them() -> None:
    assert certify(WrongFromClass16On(), steps=1).failures == []
    assert "dW2 in float32" in "; ".join(certify(WrongFromClass16On(), steps=1, of=shape_of(8, 8, 17)).failures)


def test_a_kept_certificate_is_used_for_images_of_its_size_and_for_its_number_of_classes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba_cache, "cache_directory", lambda: tmp_path)
    engine, shapes = CpuEngine(), (MNIST_SHAPE, shape_of(8, 8, 10), shape_of(4, 16, 10), shape_of(8, 8, 11))
    for reused in (False, True):
        assert [certified(engine, 30, 10, LAB, shape).reused for shape in shapes] == [reused] * len(shapes)
    named = replace(MNIST_SHAPE, class_names=tuple("abcdefghij"))  # names do not change a gradient
    assert certified(engine, 30, 10, LAB, named).reused


@pytest.mark.parametrize(
    ("height", "width", "shift", "most"),
    [(8, 8, 4, 3), (30, 2, 1, 0), (28, 200, 2, 1)],
    ids=["small", "narrow", "wide"],
)
def test_a_shift_that_the_images_do_not_allow_is_refused_before_anything_is_certified(
    height: int, width: int, shift: int, most: int
) -> None:
    with pytest.raises(ConfigError, match=rf"^shift {shift}: expected at most {most} for images"):
        check_shift(shape_of(height, width, 10), shift)
    check_shift(shape_of(height, width, 10), most)


def test_the_images_of_the_certificate_for_mnist_are_those_that_its_limits_were_set_with() -> None:
    examples = synthetic_digits(0, MNIST_SHAPE)
    assert examples.images.shape == (35_328, 784)
    assert int(examples.images.astype(np.int64).sum()) == 41_380_576
    assert examples.labels[:8].tolist() == [8, 8, 0, 0, 1, 4, 7, 1]
