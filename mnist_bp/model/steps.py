"""How long a run trains, and on how many examples: limits of its steps and checkpoints, and what it holds out."""

from __future__ import annotations

from typing import Final

from mnist_bp.errors import ConfigError

VALIDATION_SHARE: Final = 12
"""With several models, one in this many training examples is held out: 5,000 of MNIST's 60,000."""

MAX_STEPS: Final = 10**12
"""Steps of a run: 46 days at 4 us per step."""

MAX_CHECKPOINTS: Final = 100_000
"""Checkpoints of a run: each is a file, and an entry in the manifest."""


def check_checkpoints(every: int, steps: int, what: str = "") -> None:
    """Check that checkpoints are not too many.

    Args:
        every: Steps between checkpoints.
        steps: Steps of the run.
        what: Start of the message.

    Raises:
        ValueError: There are more than `MAX_CHECKPOINTS`.
    """
    smallest = -(-steps // MAX_CHECKPOINTS)
    if every < smallest:
        raise ValueError(
            f"{what}expected at least {smallest:,} of {steps:,} steps, for at most {MAX_CHECKPOINTS:,} checkpoints"
        )


def checkpoint_steps(every: int, steps: int) -> tuple[int, ...]:
    """List the steps after which a checkpoint is written: every `every` steps, and the last."""
    return (*range(every, steps, every), steps)


def held_out(examples: int, wanted: int | None, batch_size: int, *, several: bool) -> int:
    """Return how many examples at the end of a training split are held out for validation.

    Args:
        examples: Rows of the training split.
        wanted: How many to hold out; None for a twelfth of the examples if there are several models, else none.
        batch_size: The largest of the models.
        several: Whether one of several models is chosen by the examples held out.

    Raises:
        ConfigError: Fewer than a batch would be left to train on, or none to choose among several models by.
    """
    count = wanted
    if count is None:
        count = examples // VALIDATION_SHARE if several else 0
    if several and count == 0:
        raise ConfigError("0 validation examples: expected at least 1, to choose one of the models of several seeds")
    if batch_size > examples:
        raise ConfigError(f"batch size {batch_size}: expected at most the {examples} training examples")
    if batch_size > examples - count:
        raise ConfigError(
            f"{count} validation examples: expected at most {examples - batch_size}, which leaves one batch "
            f"of {batch_size} of the {examples} training examples"
        )
    return count
