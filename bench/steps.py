"""Training speed of our engines and of every other way to train the same network, measured in turn.

Each way lives in a process of its own, on one thread. First each trains once for `WHOLE` steps, from which come its
accuracy and the seconds of a whole training; then they take turns, round after round, while the others wait. Our own
engine comes between any two, so that whatever else the machine does meets both sides of a ratio: each is taken to our
turns just before and after, and its median over the rounds is what is reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

from bench.data import default_dataset
from bench.machine import header
from bench.peers import PEERS, Peer
from bench.steps_report import plot, table
from bench.turns import TASK, Field, Progress
from mnist_bp.errors import ConfigError
from mnist_bp.results import CachedDataset

__all__ = ["WHOLE", "measure", "plot", "table"]

WHOLE: Final = 10_000
"""Steps of a whole training: the lab's."""


def measure(
    runs: int,
    steps: int,
    names: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    *,
    data: CachedDataset | None = None,
    whole: int = WHOLE,
) -> dict[str, Any]:
    """Measure every way that runs here.

    Args:
        runs: Counted rounds; one more comes before them.
        steps: Steps of a fast way in a round; slow ones take a fraction, see `Peer.fewer`.
        names: Which ways, of `PEERS`; None for all.
        on_progress: Told in one line what is going on.
        data: What to train on; None for MNIST, or the bundled sample where it cannot be had.
        whole: Steps of the whole training.

    Returns:
        JSON-ready: the machine, the task, one entry for each way under `ways` with its raw seconds, and under
        `skipped` why others are not there.

    Raises:
        ConfigError: A name is unknown, or a number is below 1.
    """
    peers = known(names)
    if min(runs, steps, whole) < 1:
        raise ConfigError(f"bench: {runs} rounds of {steps} steps: expected at least 1 of each")
    machine = header()
    data = data or default_dataset()
    with Field(data, max(steps, whole), on_progress or (lambda _: None)) as field:
        for peer in peers:
            field.enter(peer, whole)
        ours = field.ours()
        for number in range(runs + 1):
            field.take_turns(number, runs, steps, ours)
    ratio_to = ours.peer.name if ours else None
    return {
        "bench": "steps",
        "machine": machine,
        "dataset": data.name,
        "task": {**TASK, "bias_gradient": "mean", "threads": 1},
        "runs": runs,
        "steps": steps,
        "whole_steps": whole,
        "ratio_to": ratio_to,
        "ways": summarize([runner.row for runner in field.runners], ratio_to),
        "skipped": field.skipped,
    }


def summarize(rows: list[dict[str, Any]], ratio_to: str | None) -> list[dict[str, Any]]:
    """Add to each way its microseconds per step, its ratio to ours, and the cores it used.

    Args:
        rows: One for each way: `seconds` and `cpu_seconds` of every turn, the `steps_per_round` it took in each, and
            ours beside each turn, `ours_us_per_step`.
        ratio_to: Name of the way that ratios are taken to.

    Returns:
        The rows. A ratio is None where ours is not known for every turn.
    """
    for row in rows:
        us = [seconds / row["steps_per_round"] * 1e6 for seconds in row["seconds"]]
        row["us_per_step"] = {"median": statistics.median(us), "min": min(us), "max": max(us)}
        ours = us if row["name"] == ratio_to else row["ours_us_per_step"]
        ratios = [own / our for own, our in zip(us, ours, strict=False)]
        row["ratio"] = statistics.median(ratios) if len(ours) == len(us) else None
        shares = [cpu / wall for cpu, wall in zip(row["cpu_seconds"], row["seconds"], strict=True)]
        row["cores_used"] = statistics.median(shares)
    return rows


def known(names: Sequence[str] | None) -> list[Peer]:
    """Find ways by name, all of them for None.

    Raises:
        ConfigError: There is none of that name.
    """
    for name in names or ():
        if name not in PEERS:
            raise ConfigError(f"bench: there is no way named {name!r}; expected some of {', '.join(PEERS)}")
    return [PEERS[name] for name in dict.fromkeys(names or PEERS)]
