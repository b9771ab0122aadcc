"""Models that are trained in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.loop import initial_models
from mnist_bp.training.run import train_run
from mnist_bp.training.trials import Examples, load_mnist, train_trials


def test_a_trial_ends_in_the_weights_of_a_run_with_the_same_settings(sample: CachedDataset) -> None:
    config = RunConfig(
        dataset="mnist-sample", steps=500, checkpoint_every=500, shift=1, initial="scaled", activation="relu",
        loss="cross_entropy", schedule="linear", learning_rate=0.01, hidden=33, seed=3, engine="cpu",
    )  # fmt: skip
    published = train_run(config, sample)
    (expected,) = load_checkpoint(published.checkpoints[-1].file)

    engine, _ = choose_engine("cpu")
    models = initial_models(config, (3, 4))
    (final,) = train_trials(config, engine, Examples(*load_split(sample.train)), models, (3, 4))

    for mine, theirs, other in zip(final.models[0], expected, final.models[1], strict=True):
        assert mine.tobytes() == theirs.tobytes()
        assert mine.tobytes() != other.tobytes()


def test_mnist_is_loaded_with_its_test_images(mnist: CachedDataset) -> None:
    train, test = load_mnist(Path(mnist.train.path).parents[2])
    assert train.images.shape == (60_000, 784)
    assert test.images.shape == (10_000, 784)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
