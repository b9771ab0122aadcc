"""The accuracy at each checkpoint while a run trains."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.parameters import Model
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.interim_accuracy import InterimAccuracy
from mnist_bp.training.loop import initial_models
from mnist_bp.training.run import train_run
from mnist_bp.training.trials import Examples, train_trials

LINE = re.compile(r"train       step +\d+ +[\d,]+ steps/s  (\S+ accuracy) (\d\.\d{4})( \(median\))?")


def config_with(**settings: Any) -> RunConfig:
    common = {"dataset": "mnist-sample", "engine": "cpu", "steps": 300, "checkpoint_every": 100}
    return RunConfig.model_validate({**common, **settings})


def accuracy_in_float64(model: Model, images: np.ndarray, labels: np.ndarray) -> float:
    a1 = 1 / (1 + np.exp(-(images / 255 @ model.W1.astype(np.float64) + model.b1)))
    return float(((a1 @ model.W2.astype(np.float64) + model.b2).argmax(1) == labels).mean())


@pytest.mark.parametrize(
    ("settings", "name", "count"),
    [
        ({}, "training accuracy", 4_000),
        ({"validation_examples": 700}, "held-out accuracy", 700),
        ({"seeds": "3"}, "held-out accuracy", 333),
    ],
)
def test_each_checkpoint_line_has_the_accuracy_on_the_last_training_images_and_says_whether_they_were_held_out(
    settings: dict[str, Any], name: str, count: int, sample: CachedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mnist_bp")
    unread = replace(sample, test=FileDigest("no such file", "0" * 64, 1))  # the test images
    trained = train_run(config_with(**settings), unread)
    lines = [found for message in caplog.messages if (found := LINE.fullmatch(message))]
    images, labels = load_split(sample.train)
    assert len(lines) == len(trained.checkpoints) == 3
    for point, line in zip(trained.checkpoints, lines, strict=True):
        models = load_checkpoint(point.file)
        expected = [accuracy_in_float64(model, images[-count:], labels[-count:]) for model in models]
        assert line[1] == name
        assert float(line[2]) == pytest.approx(np.median(expected), abs=0.5 / count + 1e-4)
        assert bool(line[3]) == (len(models) > 1)


@pytest.mark.parametrize("engine", ["cpu", "reference"])
@pytest.mark.parametrize("held_out", [0, 500])
def test_no_bit_of_a_weight_depends_on_it(engine: str, held_out: int, sample: CachedDataset) -> None:
    config = config_with(engine=engine, validation_examples=held_out)
    trained = train_run(config, sample)
    images, labels = load_split(sample.train)
    examples = Examples(images[: 4_000 - held_out], labels[: 4_000 - held_out])
    alone = train_trials(config, choose_engine(engine)[0], examples, initial_models(config, [1]), [1])
    for point, never_scored in zip(trained.checkpoints, alone, strict=True):
        (model,) = load_checkpoint(point.file)
        for kept, other in zip(model, never_scored.models[0], strict=True):
            assert kept.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("models", "held_out", "count"),
    [(1, 6_000, 5_000), (1, 0, 5_000), (2, 6_000, 2_500), (64, 6_000, 1_000), (64, 9, 9)],
)
def test_few_images_are_predicted_with_many_models(models: int, held_out: int, count: int) -> None:
    loaded: list[int] = []

    class Counting(ReferenceEngine):
        def load(self, images: np.ndarray, labels: np.ndarray, classes: int = 10) -> Any:
            loaded.append(len(images))
            return super().load(images, labels, classes)

    InterimAccuracy(Counting(), np.zeros((8_000, 784), np.uint8), np.zeros(8_000, np.uint8), held_out, models, "relu")
    assert loaded == [count]
