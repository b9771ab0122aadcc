"""From the lab to an accuracy of 0.985, one change after the other: its recipes, and the training of their models.

The network keeps two layers and its backward pass keeps seven equations; each rung changes one thing about how it is
trained. docs/lab-8-4.md explains each change.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from mnist_bp.config import EngineChoice, RunConfig
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.parallel import check_memory, memory_needed, on_every_core, usable_cores
from mnist_bp.model.parameters import CLASSES, PIXELS
from mnist_bp.presets import PRESETS
from mnist_bp.results.common import Progress
from mnist_bp.training.evaluation import Evaluator
from mnist_bp.training.loop import initial_models
from mnist_bp.training.trials import Examples, load_mnist, train_trials

logger = logging.getLogger(__name__)

_RECIPE: Final = (
    "initial",
    "bias_gradient",
    "schedule",
    "loss",
    "activation",
    "learning_rate",
    "shift",
    "hidden",
    "steps",
)
"""The settings that rungs change, in the order in which a rung names them."""


@dataclass(frozen=True)
class Rung:
    """One recipe of the ladder.

    Args:
        name: A preset, or the change that this rung adds to the one before it.
        config: All settings of the training.
    """

    name: str
    config: RunConfig

    def changes(self, before: Rung) -> tuple[str, ...]:
        """Return the flags of the settings that differ from those of another rung."""
        mine, other = dict(self.config), dict(before.config)
        return tuple(f"--{name.replace('_', '-')} {mine[name]}" for name in _RECIPE if mine[name] != other[name])


def _rungs() -> tuple[Rung, ...]:
    rungs = [Rung("lab-8-4", PRESETS["lab-8-4"]), Rung("lab-8-4-scaled", PRESETS["lab-8-4-scaled"])]
    changes: dict[str, dict[str, Any]] = {
        "+ biases by the sum": {"bias_gradient": "sum"},
        "+ falling rate": {"schedule": "linear"},
        "+ cross-entropy": {"loss": "cross_entropy", "learning_rate": 0.1},
        "+ ReLU": {"activation": "relu", "learning_rate": 0.01},
    }
    for name, change in changes.items():
        rungs.append(Rung(name, rungs[-1].config.model_copy(update=change)))
    return (*rungs, *(Rung(name, PRESETS[name]) for name in ("relu-30", "relu-128")))


RUNGS: Final = _rungs()


def climb(
    rungs: Sequence[Rung],
    engine_name: EngineChoice,
    seeds: Sequence[int],
    data_dir: Path,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the models of every rung on MNIST, and score them on the test images after their last step.

    Args:
        rungs: The recipes, at least one.
        engine_name: Engine that computes the steps.
        seeds: Seeds of the models of each rung, at least two.
        data_dir: Data directory.
        on_progress: Called with the steps taken by each model of a rung, the steps of the rung, and its name.

    Returns:
        A JSON-ready report: among others, `rungs`, each with its settings and the `accuracy` of each seed.

    Raises:
        ConfigError: The engine cannot train one of the rungs; the models do not fit in memory.
        DownloadError, ChecksumError: MNIST cannot be downloaded intact.
    """
    n = len(seeds)
    check_memory(memory_needed(n, PIXELS, max(rung.config.hidden for rung in rungs), CLASSES, 60_000), n)
    chosen = [_choose(engine_name, rung.config, n) for rung in rungs]  # before anything is downloaded
    logger.info(f"ladder      reading or downloading mnist in {data_dir}")
    train, test = load_mnist(data_dir)
    reports = []
    for rung, before, (engine, _) in zip(rungs, (rungs[0], *rungs), chosen, strict=False):
        report = _train_rung(rung, engine, seeds, train, test, on_progress)
        reports.append({**report, "changes": rung.changes(before)})
        logger.info(f"ladder      {rung.name:<20} {report['mean']:.4f} +- {report['standard_deviation']:.4f}")
    engines = " and ".join(dict.fromkeys(engine.name for engine, _ in chosen))
    return {
        "title": f"test accuracy of {n} seeds of each recipe, {engines} engine, {usable_cores()} cores",
        "seeds": list(seeds),
        "cores": usable_cores(),
        "notices": list(dict.fromkeys(notice for _, notice in chosen if notice)),
        "rungs": reports,
    }


def _choose(name: EngineChoice, config: RunConfig, models: int) -> tuple[Engine, str | None]:
    return choose_engine(name, config.hidden, config.batch_size, models, config.shift)


def _train_rung(
    rung: Rung, engine: Engine, seeds: Sequence[int], train: Examples, test: Examples, on_progress: Progress | None
) -> dict[str, Any]:
    config = rung.config.model_copy(update={"checkpoint_every": rung.config.steps})

    def progress(step: int, _seconds: float) -> None:
        if on_progress:
            on_progress(step, config.steps, rung.name)

    (final,) = train_trials(config, engine, train, initial_models(config, seeds), seeds, progress)
    accuracy = on_every_core(Evaluator(engine, *test, config.recipe).accuracy, final.models)
    at_once = usable_cores() if engine.name == "cpu" else 1
    return {
        "name": rung.name,
        "config": {name: value for name, value in rung.config.record.items() if name in _RECIPE},
        "engine": engine.name,
        "accuracy": accuracy,
        "mean": fmean(accuracy),
        "standard_deviation": stdev(accuracy),
        "minimum": min(accuracy),
        "maximum": max(accuracy),
        "train_seconds": final.seconds,
        "seconds_per_model": final.seconds / -(-len(seeds) // at_once),
    }
