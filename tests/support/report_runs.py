"""A run of three seeds on the bundled sample, published with its report."""

from __future__ import annotations

from pathlib import Path

from mnist_bp.config import RunConfig
from mnist_bp.registry.publish import publish_run
from mnist_bp.results import CachedDataset, RawDataset
from mnist_bp.training.evaluation import evaluate_run
from mnist_bp.training.run import train_run


def publish_three_seeds(raw: RawDataset, data: CachedDataset, directory: Path) -> Path:
    """Train, evaluate and publish, and return the directory of the published run."""
    config = RunConfig(
        dataset="mnist-sample",
        steps=300,
        checkpoint_every=100,
        seeds="1..3",
        engine="cpu",
        data_dir=str(directory / "data"),
        artifacts=str(directory / "artifacts"),
    )
    trained = train_run(config, data)
    return Path(publish_run(config, raw, data, trained, evaluate_run(data, trained)).artifacts)
