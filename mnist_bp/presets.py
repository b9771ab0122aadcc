"""Presets: named configurations of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, Literal

from mnist_bp.config import RunConfig
from mnist_bp.model.recipe import recipe_of

PresetName = Literal["lab-8-4", "lab-8-4-sum", "lab-8-4-scaled", "relu-30", "relu-128", "smoke"]

_WELL: Final[Mapping[str, Any]] = {
    "initial": "scaled",
    "bias_gradient": "sum",
    "loss": "cross_entropy",
    "activation": "relu",
    "schedule": "linear",
    "shift": 1,
}

PRESETS: Final[Mapping[str, RunConfig]] = {
    # The lab as published.
    "lab-8-4": RunConfig(
        steps=10_000, batch_size=10, learning_rate=0.5, bias_gradient="mean", hidden=30, seed=1, checkpoint_every=1_000
    ),
    # The lab with one change: biases also step along the gradient of the stated loss, as weights do.
    "lab-8-4-sum": RunConfig(bias_gradient="sum"),
    # The lab with another change: initial weights that do not saturate its sigmoids.
    "lab-8-4-scaled": RunConfig(initial="scaled", minimum_gain=0.006, class_floor=0.78),
    # The lab's network, trained well: docs/lab-8-4.md says what each setting changes, and how its value was found.
    "relu-30": RunConfig(
        **_WELL,
        learning_rate=0.003,
        hidden=30,
        steps=360_000,
        checkpoint_every=36_000,
        minimum_gain=0.001,
        class_floor=0.94,
    ),
    # The same with more hidden units, which need fewer steps: what the nightly run trains.
    "relu-128": RunConfig(
        **_WELL,
        learning_rate=0.015,
        hidden=128,
        steps=60_000,
        checkpoint_every=6_000,
        minimum_gain=0.001,
        class_floor=0.96,
    ),
    # The whole pipeline in seconds, to check that it works.
    "smoke": RunConfig(dataset="mnist-sample", steps=500, checkpoint_every=100),
}
"""Named configurations; a preset decides the fields that it sets, and leaves the others at their defaults.

The gate's limits come from 32 or 64 seeds of each on MNIST; see docs/gate.md.
"""

MNIST_LIMITS: Final = frozenset({"minimum_gain", "class_floor"})
"""The gate's limits, which a preset decides for MNIST alone: on a harder dataset, no run would ever reach them."""


def training_name(config: Mapping[str, Any], steps: int, seeds: int = 1) -> str:
    """Name how a run was trained, such as `relu-128, 60,000 steps`: runs of one name differ in seed and data alone.

    Args:
        config: The settings by name, such as those that a manifest records.
        steps: Steps of its last checkpoint.
        seeds: Number of models that the run's own model is the best of.
    """
    wanted = _computation(config)
    others = {name: _computation(dict(preset)) for name, preset in PRESETS.items()}
    nearest, theirs = min(others.items(), key=lambda other: len(wanted.items() - other[1].items()))
    changed = [f"{name.replace('_', ' ')} {value}" for name, value in wanted.items() if value != theirs[name]]
    name = f"{nearest} with {', '.join(changed)}" if changed else nearest
    kind = "models" if config.get("sweep") else "seeds"
    return f"{name}, {steps:,} steps{f', best of {seeds:,} {kind}' if seeds > 1 else ''}"


def _computation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what each step computes, with the lab's where the configuration has none."""
    recipe = asdict(recipe_of(config))
    del recipe["steps"]
    return recipe | {name: config.get(name, RunConfig.model_fields[name].default) for name in ("hidden", "batch_size")}
