"""Checks before a run: what would fail later is refused before anything is downloaded or computed."""

from __future__ import annotations

from pathlib import Path

from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.data.mirrors import mirrors_of
from mnist_bp.data.own.address import check_options, is_own
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.parallel import check_memory, check_scores_memory, memory_needed, usable_cores
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import CLASSES, PIXELS
from mnist_bp.model.steps import checkpoint_steps
from mnist_bp.model.sweep import MAX_TOGETHER
from mnist_bp.storage.address import open_store, url_of
from mnist_bp.storage.files import check_writable


def preflight(config: RunConfig) -> None:
    """Refuse a run that would fail later, before anything is downloaded or computed.

    Raises:
        ConfigError: No such device, a batch larger than the dataset, more models than fit in memory, unusable mirrors,
            or no client for the tracking server.
        StoreError: The data directory or the store cannot be written to.
        ClusterError: `--runner ray` without a cluster that can be reached.
    """
    check_tracking(config)
    check_options(config.dataset, dict(config))
    if not is_own(config.dataset):  # the number of own images is known once they are read: `pipeline.preprocess`
        spec = DATASETS["mnist" if config.dataset == "auto" else config.dataset]
        mirrors_of(spec)
        config.held_out(spec.train_examples)
        check_memory_for(config, PIXELS, CLASSES, spec.train_examples)
    if config.engine != "auto":
        choose_engine(config.engine, shift=config.grid.largest.shift)
    store = open_store(config.artifacts, attempts=3)
    url_of(store, "")
    store.check_writable()  # before a new data directory is created
    check_writable(Path(config.data_dir))
    if config.runner == "ray":
        from mnist_bp.training.ray_connection import check_cluster

        check_cluster()


def check_tracking(config: RunConfig) -> None:
    """Refuse to log to a tracking server that cannot be used from here; see `mnist_bp.registry.tracking`.

    Raises:
        ConfigError: No such address, or no client.
    """
    from mnist_bp.registry.tracking import tracking_server

    tracking_server(config.track)


def check_runner(config: RunConfig) -> None:
    """Refuse a runner of parts for a run that has none, or one that is not set up.

    Raises:
        ConfigError: The models are trained in one piece; or Ray is not installed, or `$RAY_ADDRESS` names no cluster.
    """
    if config.runner != "local" and not config.grid.in_parts:
        raise ConfigError(
            f"runner {config.runner}: expected a sweep, or more than {MAX_TOGETHER} seeds, which are trained in "
            "parts; leave --runner out"
        )
    if config.runner == "ray":
        from mnist_bp.training.ray_connection import cluster_address

        cluster_address()


def check_memory_for(config: RunConfig, inputs: int, classes: int, examples: int) -> None:
    """Refuse more models than fit in memory at a time, models of images that are too large, or too many scores.

    Args:
        config: The run, with steps rather than epochs.
        inputs: D, the number of pixels of an image.
        classes: K, the number of classes.
        examples: Rows of the training split.

    Raises:
        ConfigError: This machine has too little memory.
    """
    grid = config.grid
    sizes = grid.largest
    if grid.in_parts:  # wherever they are trained, this machine has the scores of all models at the end
        checkpoints = len(checkpoint_steps(config.checkpoint_every, config.steps))
        check_scores_memory(grid.models, checkpoints, classes)
    models = min(grid.models, sizes.models * usable_cores()) if grid.in_parts else grid.models
    if (models > 1 or inputs > PIXELS) and config.runner == "local":
        check_memory(memory_needed(models, inputs, sizes.hidden, classes, examples), models)
