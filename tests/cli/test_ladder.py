"""`mnist-bp ladder`: what each rung changes, what it reaches, and what the command prints and refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from mnist_bp.cli import ladder
from mnist_bp.cli.ladder import LadderCommand
from mnist_bp.cli.main import main
from mnist_bp.config import RunConfig
from mnist_bp.engines.parallel import usable_cores
from mnist_bp.presets import PRESETS
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.ladder import RUNGS, Rung, climb


def data_dir_of(mnist: CachedDataset) -> str:
    return str(Path(mnist.train.path).parents[2])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rungs of a few steps."""
    lab = RunConfig(steps=60)
    rungs = Rung("lab", lab), Rung("+ shift", lab.model_copy(update={"shift": 1, "initial": "scaled"}))
    monkeypatch.setattr(ladder, "RUNGS", rungs)


@pytest.mark.slow
def test_every_rung_reaches_what_the_documentation_states_of_it(mnist: CachedDataset) -> None:
    report = climb(RUNGS, "auto", (201, 202), Path(data_dir_of(mnist)))
    means = {rung["name"]: rung["mean"] for rung in report["rungs"]}
    scaled, bias_sum, falling, cross_entropy, relu = list(means.values())[1:6]
    assert 0.925 < scaled < 0.95
    assert 0.925 < bias_sum < 0.95
    assert all(0.943 < mean < 0.96 for mean in (falling, cross_entropy, relu))
    assert means["relu-30"] > 0.973
    assert means["relu-128"] > 0.984


def test_the_rungs_lead_from_the_lab_to_the_presets_one_recipe_after_the_other() -> None:
    changes = [set(rung.changes(before)) for before, rung in pairwise(RUNGS)]
    assert changes[:5] == [
        {"--initial scaled"},
        {"--bias-gradient sum"},
        {"--schedule linear"},
        {"--loss cross_entropy", "--learning-rate 0.1"},
        {"--activation relu", "--learning-rate 0.01"},
    ]
    assert all(changes)
    assert RUNGS[0].config == PRESETS["lab-8-4"]
    assert [rung.config for rung in RUNGS if rung.name in PRESETS] == [
        PRESETS[name] for name in ("lab-8-4", "lab-8-4-scaled", "relu-30", "relu-128")
    ]


@pytest.mark.usefixtures("short")
def test_the_report_has_the_accuracy_of_each_seed_and_the_seconds_of_one_model(
    mnist: CachedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--seeds", "4..6", "--data-dir", data_dir_of(mnist), "--plot", "picture.png", "--json"]
    assert main(["ladder", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seeds"] == [4, 5, 6]
    lab, shifted = report["rungs"]
    for rung in (lab, shifted):
        assert len(set(rung["accuracy"])) == 3
        assert rung["mean"] == pytest.approx(fmean(rung["accuracy"]))
        assert (rung["minimum"], rung["maximum"]) == (min(rung["accuracy"]), max(rung["accuracy"]))
        turns = -(-3 // usable_cores())
        assert rung["seconds_per_model"] == pytest.approx(rung["train_seconds"] / turns)
    assert (lab["changes"], shifted["changes"]) == ([], ["--initial scaled", "--shift 1"])
    assert lab["config"]["steps"] == shifted["config"]["steps"] == 60
    assert shifted["mean"] > lab["mean"] + 0.1
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("short")
def test_a_seed_decides_the_accuracy_whatever_the_other_seeds_are(
    mnist: CachedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    def accuracy_of_5(seeds: str) -> list[float]:
        assert main(["ladder", "--seeds", seeds, "--data-dir", data_dir_of(mnist), "--plot", "", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        return [rung["accuracy"][report["seeds"].index(5)] for rung in report["rungs"]]

    assert accuracy_of_5("4,5") == accuracy_of_5("5,6")


@pytest.mark.usefixtures("short")
def test_the_table_has_a_line_for_each_rung(mnist: CachedDataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ladder", "--seeds", "2", "--data-dir", data_dir_of(mnist), "--plot", ""]) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if line.startswith("+ shift")]
    assert line.rstrip().endswith("--initial scaled --shift 1")
    assert "ladder      + shift" in printed.err
    assert "2 seeds of each recipe" in printed.out
    assert "plot" not in printed.out
    assert not list(Path().glob("*.png"))


def test_quick_trains_fewer_seeds() -> None:
    assert LadderCommand(quick=True).seed_list == (1, 2, 3, 4)
    assert len(LadderCommand().seed_list) == 12


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--seeds", "1"], "--seeds '1': expected at least 2 seeds, for a standard deviation; see --help"),
        (["--seeds", "7..7"], "--seeds '7..7': expected at least 2 seeds, for a standard deviation; see --help"),
        (["--seeds", "9..2"], "--seeds '9..2': expected the lower seed first, as in 2..9; see --help"),
        (["--quick", "--seeds", "3"], "--quick and --seeds: expected one of the two; see --help"),
        (["--plot", "ladder.gif"], "--plot 'ladder.gif': expected a name that ends in .png; see --help"),
    ],
)
def test_bad_usage_is_one_line(flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ladder", *flags, "--data-dir", "nowhere"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {expected}\n"


@pytest.mark.parametrize(("flags", "expected"), [(["--engine", "cuda"], "engine cuda"), (["--seeds", "1000000"], "GB")])
def test_what_cannot_be_trained_is_refused_before_the_download(
    flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ladder", *flags, "--data-dir", "nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not Path("nowhere").exists()
