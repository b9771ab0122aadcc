"""Evaluation of a run in parts: its models are scored already, where they were trained."""

from __future__ import annotations

import logging

import numpy as np

from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import counted
from mnist_bp.model.recipe import recipe_of
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.evaluation import Evaluation
from mnist_bp.results.training import TrainedRun
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.evaluation import Evaluator
from mnist_bp.training.part_scores import gather_scores
from mnist_bp.training.parts import cut_into_parts

logger = logging.getLogger(__name__)


def evaluate_parts(data: CachedDataset, trained: TrainedRun) -> Evaluation:
    """Read the scores of all models, and compute the confusion and the mistakes of the run's own model.

    Args:
        data: The dataset; its test split is read.
        trained: The run; its files are verified against their digests.

    Raises:
        ChecksumError, DataFormatError, StoreError: A file is damaged, malformed or missing.
    """
    assert trained.parts is not None
    models = gather_scores(cut_into_parts(RunConfig.model_validate(trained.config)), trained.parts.scores)
    accuracies = models.final_accuracies
    logger.info(
        f"evaluate    {counted(len(accuracies), 'model')}: accuracy {np.median(accuracies):.4f} (median), "
        f"{accuracies.min():.4f} to {accuracies.max():.4f}"
    )
    engine, _ = choose_engine(trained.engine if trained.device == "cpu" else "auto")
    test = Evaluator(engine, *load_split(data.test), recipe_of(trained.config), data.shape.classes, lab=False)
    (own,) = load_checkpoint(trained.checkpoints[-1].file)
    scores = [models.score(models.steps.index(point.step), models.best) for point in trained.checkpoints]
    return Evaluation(scores[-1].seed, tuple(scores), test.confusion(own), test.mistakes(own), models)
