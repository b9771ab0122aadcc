"""`mnist-bp ladder`: from the lab to an accuracy of 0.985, one change after the other, with many seeds of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import field_validator, model_validator
from rich.console import Console

from mnist_bp.cli.console import logging_to, progress_bar
from mnist_bp.cli.file_names import PngFile
from mnist_bp.cli.flags import DataCommand, parse
from mnist_bp.cli.output import say
from mnist_bp.cli.tables import print_table
from mnist_bp.config import EngineChoice
from mnist_bp.model.seeds import parse_seeds
from mnist_bp.report.png_plots import ladder_png
from mnist_bp.storage.files import write_bytes
from mnist_bp.training.ladder import RUNGS, climb

QUICK_SEEDS: Final = "4"

_MIN_SEEDS: Final = 2
"""As many as a standard deviation needs."""


class LadderCommand(DataCommand, cli_prog_name="mnist-bp ladder"):
    """Train several seeds of each recipe from lab-8-4 to relu-128 on MNIST; print the accuracy on the test images.

    No choice is made by it: the presets were chosen by held-out training images; see docs/lab-8-4.md.
    """

    seeds: str = "12"
    """Seeds of each recipe, at least two: 1..12 (a range), 3,5,8 (a list), or 12 (a count, from 1 on)."""

    quick: bool = False
    """Train four seeds of each, in less than half a minute on two cores."""

    engine: EngineChoice = "auto"
    """Engine that computes the steps; auto = cuda from 8 seeds on if there is a GPU and images are not moved, else cpu,
    else reference."""

    plot: PngFile = "ladder.png"
    """PNG file for the plot; an empty string for none."""

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, value: str) -> str:
        if len(parse_seeds(value, 1)) < _MIN_SEEDS:
            raise ValueError("expected at least 2 seeds, for a standard deviation")
        return value

    @model_validator(mode="after")
    def _expect_one_count(self) -> Self:
        if self.quick and "seeds" in self.model_fields_set:
            raise ValueError("--quick and --seeds: expected one of the two")
        return self

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds to train of each rung."""
        return parse_seeds(QUICK_SEEDS if self.quick else self.seeds, 1)


def main(arguments: Sequence[str]) -> int:
    """Climb the ladder, then print and plot it."""
    command = parse(LadderCommand, arguments)
    console = Console(stderr=True)
    with logging_to(console), progress_bar(console, "train") as on_progress:
        report = climb(RUNGS, command.engine, command.seed_list, Path(command.data_dir), on_progress)
    rungs = report["rungs"]
    if command.plot:
        write_bytes(Path(command.plot), ladder_png([rung["name"] for rung in rungs], [r["accuracy"] for r in rungs]))
    if command.json_output:
        say(json.dumps({**report, "plot": command.plot or None}))
        return 0
    rows = [
        (
            rung["name"],
            f"{rung['mean']:.4f}",
            f"{rung['standard_deviation']:.4f}",
            f"{rung['minimum']:.4f} to {rung['maximum']:.4f}",
            str(len(rung["accuracy"])),
            f"{rung['seconds_per_model']:.2f}",
            " ".join(rung["changes"]),
        )
        for rung in rungs
    ]
    numbers = ("mean", "std", "range", "n", "s/model")
    say(report["title"], end="\n\n")
    print_table(("recipe", *numbers, "change"), rows, right=numbers)
    for line in ("", *report["notices"], "s/model: training of one model, in seconds of one core or of the GPU"):
        say(line)
    if command.plot:
        say(f"plot: {command.plot}")
    return 0
