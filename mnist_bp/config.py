"""What to run: one frozen model that is the flow's parameter, the command line's flags and the manifest's record."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mnist_bp.data.datasets import DatasetName
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import BiasGradient
from mnist_bp.storage.address import absolute_address, address_problem

DatasetChoice = Literal["auto", DatasetName]
EngineChoice = Literal["auto", "reference", "cpu", "cuda"]


def data_dir_from_environment() -> str:
    """Return `$MNIST_BP_DATA_DIR`, or `data` in the working directory."""
    return os.environ.get("MNIST_BP_DATA_DIR") or "data"


def artifacts_from_environment() -> str:
    """Return `$MNIST_BP_ARTIFACTS`, or `artifacts` in the working directory."""
    return os.environ.get("MNIST_BP_ARTIFACTS") or "artifacts"


VALIDATION_SHARE: Final = 12
"""With several seeds, one in this many training examples is held out: 5,000 of MNIST's 60,000."""

MAX_SEEDS: Final = 1_000_000
"""Seeds that are written out; what fits in memory is fewer by far."""

MAX_STEPS: Final = 10**12
"""In a run: 46 days at 4 us a step."""

MAX_CHECKPOINTS: Final = 100_000
"""In a run: every one of them is a file, and an entry in its manifest."""

PLACES: Final = frozenset({"data_dir", "artifacts"})
"""Settings that say where a run is made and published, not what it is."""


class RunConfig(BaseModel):
    """Everything that decides what a run does. Credentials and endpoints are never in it (AWS_* environment)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # an address may hold a secret
        use_attribute_docstrings=True,
        title="mnist-bp run",
    )

    dataset: DatasetChoice = "auto"
    """Images to train on; auto = mnist if it is cached or reachable, else the bundled mnist-sample."""

    steps: int = Field(default=10_000, ge=1, le=MAX_STEPS)
    """Training steps, one batch each; one epoch of MNIST is 6,000 at batch size 10."""

    batch_size: int = Field(default=10, ge=1)
    """Examples per step; an epoch's last partial batch is dropped."""

    learning_rate: float = Field(default=0.5, gt=0, le=3e38, allow_inf_nan=False)
    """Step size, within float32; weights step along the gradient summed over the batch."""

    bias_gradient: BiasGradient = "mean"
    """How bias gradients are reduced over the batch; the lab takes the mean for biases and the sum for weights."""

    hidden: int = Field(default=30, ge=1, le=16_384)
    """Hidden units."""

    seed: int = Field(default=1, ge=0, lt=2**53)
    """Decides the initial weights and the order of the examples; below 2**53, so that JSON keeps it exact."""

    seeds: str | None = None
    """Train a model for each of several seeds, instead of --seed: 1..64, or 3,5,8, or a count that starts at --seed."""

    validation_examples: int | None = Field(default=None, ge=0)
    """Held out at the end of the training split, to choose among --seeds; default: 1 in 12 for --seeds, else none."""

    checkpoint_every: int = Field(default=1_000, ge=1, validate_default=True)
    """Steps between checkpoints, of which a run has at most 100,000; the last step always gets one."""

    engine: EngineChoice = "auto"
    """What computes the steps; auto = cuda where there is a GPU, else cpu, else reference."""

    data_dir: str = Field(default_factory=data_dir_from_environment, min_length=1)
    """Directory of downloads, caches and runs in the making: $MNIST_BP_DATA_DIR, else ./data."""

    artifacts: str = Field(default_factory=artifacts_from_environment, min_length=1)
    """Where finished runs are published: a directory or s3://bucket/prefix; $MNIST_BP_ARTIFACTS, else ./artifacts."""

    significance: float = Field(default=0.05, gt=0, le=1, allow_inf_nan=False)
    """Most the one-sided p of McNemar's exact test may be for a run to replace the champion of its dataset."""

    minimum_gain: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """Least gain in accuracy, as a share of the test images, for a run to replace the champion."""

    class_floor: float = Field(default=0.75, ge=0, le=1, allow_inf_nan=False)
    """Least share of each class's test images that a run must have right to replace the champion."""

    allow_unsafe_promotion: bool = False
    """Promote even where the store ignores conditional writes, so that of two runs at once one may be lost."""

    @field_validator("artifacts")
    @classmethod
    def _names_a_place(cls, value: str) -> str:
        if problem := address_problem(value):
            raise ValueError(problem)
        return value

    @field_validator("checkpoint_every")
    @classmethod
    def _keeps_checkpoints_few(cls, value: int, others: ValidationInfo) -> int:
        steps = others.data.get("steps", 1)
        least = -(-steps // MAX_CHECKPOINTS)
        if value < least:
            raise ValueError(
                f"expected at least {least:,} of {steps:,} steps, for at most {MAX_CHECKPOINTS:,} checkpoints"
            )
        return value

    @field_validator("seeds")
    @classmethod
    def _names_seeds(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None:
            parse_seeds(value, others.data.get("seed", 0))
        return value

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds to train, at least one."""
        return (self.seed,) if self.seeds is None else parse_seeds(self.seeds, self.seed)

    @property
    def seeds_label(self) -> str:
        """Name the seeds in a word: `seed1`, `seeds1..64`, or `seeds3,5,8`."""
        return f"seed{'s' if len(self.seed_list) > 1 else ''}{self.seeds_range}"

    @property
    def seeds_range(self) -> str:
        """Tell the seeds in short: `1`, `1..64`, or `3,5,8`."""
        seeds = self.seed_list
        if len(seeds) > 1 and list(seeds) == [*range(seeds[0], seeds[0] + len(seeds))]:
            return f"{seeds[0]}..{seeds[-1]}"
        return ",".join(map(str, seeds))

    def held_out(self, examples: int) -> int:
        """Tell how many of the training examples are kept for validation.

        Raises:
            ConfigError: None would be left to train on, or several models could not be told apart.
        """
        several = len(self.seed_list) > 1
        count = self.validation_examples
        if count is None:
            count = examples // VALIDATION_SHARE if several else 0
        if several and count == 0:
            raise ConfigError("--validation-examples 0: expected at least 1, to choose one of the models of --seeds by")
        check_batch_size(self.batch_size, examples - count)
        return count

    @property
    def record(self) -> dict[str, Any]:
        """Everything but where the run is made, as JSON has it, and the same from any working directory."""
        return self.model_dump(mode="json", exclude={"data_dir"}) | {"artifacts": absolute_address(self.artifacts)}

    @property
    def chosen(self) -> dict[str, Any]:
        """Those entries of `record` that are not the defaults: a form sends those as well."""
        defaults = RunConfig().record
        return {name: value for name, value in self.record.items() if value != defaults[name]}

    @property
    def training_record(self) -> dict[str, Any]:
        """What decides the weights at a step, as far as a configuration does; beside it go the seeds."""
        return self.model_dump(mode="json", include={"batch_size", "learning_rate", "bias_gradient", "hidden"})


PRESETS: Final[Mapping[str, RunConfig]] = {
    # The lab as published.
    "lab-8-4": RunConfig(
        steps=10_000, batch_size=10, learning_rate=0.5, bias_gradient="mean", hidden=30, seed=1, checkpoint_every=1_000
    ),
    # The lab with one change: biases step along the gradient of the stated loss, as the weights do.
    "lab-8-4-sum": RunConfig(bias_gradient="sum"),
    # The whole pipeline in a moment, to see that everything works.
    "smoke": RunConfig(dataset="mnist-sample", steps=500, checkpoint_every=100),
}
"""Named instances; a preset decides the fields that it sets, and leaves the others at their defaults."""


def parse_seeds(text: str, first: int) -> tuple[int, ...]:
    """Read which seeds to train.

    Args:
        text: `1..64` (both ends included), `3,5,8`, or a count: `64`.
        first: The first seed of a count.

    Raises:
        ValueError: Says what was expected.
    """
    if counted := re.fullmatch(r"\d+", text):
        start, count = first, int(counted[0])
    elif limits := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        start, count = int(limits[1]), int(limits[2]) - int(limits[1]) + 1
    elif re.fullmatch(r"\d+(,\d+)+", text):
        seeds = tuple(map(int, text.split(",")))
        if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"expected every seed once, but {repeated[0]} is repeated")
        return _in_range(seeds)
    else:
        raise ValueError("expected a range such as 1..64, a list such as 3,5,8, or a count such as 64")
    if not 1 <= count <= MAX_SEEDS:
        raise ValueError(f"expected 1 to {MAX_SEEDS:,} seeds, got {max(count, 0):,}")
    return _in_range(tuple(range(start, start + count)))


def _in_range(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if max(seeds) >= 2**53:
        raise ValueError(f"expected seeds below 2**53, got {max(seeds)}")
    return seeds


def check_batch_size(batch_size: int, examples: int) -> None:
    """Refuse a batch that no epoch could fill.

    Raises:
        ConfigError: It is larger than the dataset.
    """
    if batch_size > examples:
        raise ConfigError(f"--batch-size {batch_size}: expected at most the {examples} training examples")
