"""The models of a run: one for each combination of the settings that are swept, and each seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from mnist_bp.model.sweep import MAX_TOGETHER


class Sizes(NamedTuple):
    """What decides which engine can train models; see `mnist_bp.engines.choose.choose_engine`."""

    hidden: int
    batch_size: int
    models: int
    shift: int


@dataclass(frozen=True)
class ModelGrid:
    """The models of a run.

    Args:
        settings: The settings of the run, by name.
        swept: The values of each setting that is swept; empty without a sweep.
        seeds: At least one.
    """

    settings: Mapping[str, Any]
    swept: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]

    @property
    def models(self) -> int:
        """Number of models to train, at least one."""
        return len(self.seeds) * math.prod(map(len, self.swept.values()))

    @property
    def in_parts(self) -> bool:
        """Whether the models are trained in parts; see `mnist_bp.training.parts`."""
        return bool(self.swept) or len(self.seeds) > MAX_TOGETHER

    @property
    def several(self) -> bool:
        """Whether one of the models is chosen by examples that are held out; so is the only model of a sweep."""
        return self.in_parts or len(self.seeds) > 1

    @property
    def combinations(self) -> list[dict[str, Any]]:
        """Every combination of the values that are swept; one that is empty without a sweep."""
        return self._combinations(self.swept)

    @property
    def equations(self) -> list[dict[str, Any]]:
        """Every combination of the values that decide the equations and the sizes of a model."""
        return self._combinations(name for name in self.swept if name not in ("learning_rate", "schedule"))

    @property
    def largest(self) -> Sizes:
        """The largest sizes of the models, and how many an engine trains in a call: they decide which engine can."""
        hidden, batch_size, shift = map(self._largest, ("hidden", "batch_size", "shift"))
        return Sizes(hidden, batch_size, min(self.models, MAX_TOGETHER) if self.in_parts else self.models, shift)

    def _largest(self, name: str) -> int:
        return max(map(int, self.swept.get(name, (self.settings[name],))))

    def _combinations(self, names: Iterable[str]) -> list[dict[str, Any]]:
        names = tuple(names)
        return [dict(zip(names, values, strict=True)) for values in product(*(self.swept[name] for name in names))]
