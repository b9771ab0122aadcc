"""Whole trainings of a preset by our engine and by torch: the result, its table, and what is refused."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench import recipe
from mnist_bp.errors import ConfigError
from mnist_bp.results.dataset import CachedDataset


def test_each_seed_is_trained_by_both_from_the_same_start_in_the_same_order(sample: CachedDataset) -> None:
    logged: list[str] = []

    result = json.loads(json.dumps(recipe.measure(2, 150, log=logged.append, data=sample)))

    assert logged == ["recipe: seed 1 of 2", "recipe: seed 2 of 2"]
    ours, torchs = result["rows"]
    assert (ours["name"], torchs["name"]) == ("cpu", "autograd-tuned")
    assert ours["accuracy"] == torchs["accuracy"]  # after so few steps they differ by rounding alone
    assert ours["accuracy"][0] != ours["accuracy"][1]
    assert min(ours["accuracy"]) > 0.6
    assert (ours["ratio"], ours["p"]) == (1, 1)
    ratios = [a / b for a, b in zip(torchs["us_per_step"]["seconds"], ours["us_per_step"]["seconds"], strict=True)]
    assert torchs["ratio"] == pytest.approx(sum(ratios) / 2)
    assert result["task"] == {
        "classes": 10, "batch_size": 10, "hidden": 128, "initial": "scaled", "loss": "cross_entropy",
        "activation": "relu", "bias_gradient": "sum", "learning_rate": 0.015, "schedule": "linear", "shift": 1,
        "steps": 150, "threads": 1,
    }  # fmt: skip
    printed = Console(width=200, record=True, file=io.StringIO())
    printed.print(recipe.table(result))
    for expected in ("nn.Linear, autograd, hand-tuned", "relu-128, 150 steps, mnist-sample", "x cpu"):
        assert expected in printed.export_text(clear=False)


def test_samples_that_differ_have_a_small_p_value() -> None:
    assert recipe.p_value([0.980, 0.981, 0.982, 0.983], [0.984, 0.985, 0.986, 0.987]) < 0.05
    assert recipe.p_value([0.980, 0.982, 0.984, 0.986], [0.981, 0.983, 0.985, 0.987]) > 0.5


@pytest.mark.parametrize(
    ("runs", "names", "expected"),
    [(0, None, "0 rounds"), (1, ["cpu", "numpy"], "numpy trains by the lab's rule alone; expected some of cpu, ")],
)
def test_zero_seeds_and_implementations_of_the_lab_alone_are_refused(
    runs: int, names: list[str] | None, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        recipe.measure(runs, names=names)
