"""What can be known to fail is refused before anything is fetched or computed."""

from __future__ import annotations

from pathlib import Path

from mnist_bp.config import RunConfig
from mnist_bp.datasets import CLASSES, DATASETS, PIXELS
from mnist_bp.engines import choose_engine
from mnist_bp.files import check_writable
from mnist_bp.mirrors import mirrors_of
from mnist_bp.population import check_memory, memory_needed
from mnist_bp.store import open_store


def preflight(config: RunConfig) -> None:
    """Check what a run will need at its end as well as at its start.

    Raises:
        ConfigError: No such device, a batch larger than the dataset, more models than fit in memory, unusable mirrors.
        StoreError: The data directory or the artifacts' place cannot be written to.
    """
    spec = DATASETS["mnist" if config.dataset == "auto" else config.dataset]
    mirrors_of(spec)
    config.held_out(spec.train_examples)
    models = len(config.population)
    if models > 1:
        check_memory(memory_needed(models, PIXELS, config.hidden, CLASSES, spec.train_examples), models)
    if config.engine != "auto":
        choose_engine(config.engine)
    open_store(config.artifacts, attempts=3).check_writable()  # before the data directory is made, if it is new
    check_writable(Path(config.data_dir))
