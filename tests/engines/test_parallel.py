"""Several seeds: which are trained, the memory they need, their statistics, and the choice of the run's model."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydantic import ValidationError

from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.parallel import check_memory, memory_needed, on_every_core
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.results.evaluation import CheckpointScore, Evaluation
from mnist_bp.storage import memory
from mnist_bp.storage.memory import available_memory
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.evaluation import Evaluator, evaluate_run, seed_statistics
from mnist_bp.training.loop import ExampleOrder, train
from mnist_bp.training.run import train_run


@pytest.mark.parametrize(
    ("text", "seed", "expected"),
    [
        ("1..4", 9, (1, 2, 3, 4)),
        ("7..7", 1, (7,)),
        ("3", 1, (1, 2, 3)),
        ("3", 10, (10, 11, 12)),
        ("5,3,8", 1, (5, 3, 8)),
    ],
)
def test_seeds_are_a_range_a_list_or_a_count(text: str, seed: int, expected: tuple[int, ...]) -> None:
    assert RunConfig(seeds=text, seed=seed).seed_list == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "expected 1 to 1,000,000 seeds, got 0"),
        ("4..1", "expected the lower seed first, as in 1..4"),
        ("1..9999999", "expected 1 to 1,000,000 seeds, got 9,999,999"),
        ("3,5,3", "expected every seed once, but 3 is repeated"),
        (f"1,{2**53}", "expected seeds below 2\\*\\*53"),
        ("-3", "expected a range such as 1..64"),
        ("1-5", "expected a range such as 1..64"),
        ("many", "expected a range such as 1..64"),
    ],
)
def test_invalid_seeds_are_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        RunConfig(seeds=text)


def test_one_model_holds_out_nothing_and_several_hold_out_a_twelfth() -> None:
    assert RunConfig().held_out(60_000) == 0
    assert RunConfig(validation_examples=100).held_out(60_000) == 100
    assert RunConfig(seeds="1..2").held_out(60_000) == 5_000
    assert RunConfig(seeds="1..2", validation_examples=7).held_out(60_000) == 7


def test_several_models_without_validation_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^0 validation examples: expected at least 1"):
        RunConfig(seeds="1..2", validation_examples=0).held_out(60_000)


def test_a_batch_must_not_exceed_the_examples_that_remain_for_training() -> None:
    with pytest.raises(ConfigError, match=r"^95 validation examples: expected at most 90, which leaves one batch"):
        RunConfig(validation_examples=95).held_out(100)


def test_more_models_than_fit_in_memory_are_refused_with_both_figures() -> None:
    available = available_memory()
    models = available // memory_needed(1, 784, 30, 10, 60_000) + 1_000
    with pytest.raises(
        ConfigError, match=rf"{models:,} models need about [\d.,]+ GB of memory, and [\d.,]+ GB are free"
    ):
        check_memory(memory_needed(models, 784, 30, 10, 60_000), models)
    check_memory(memory_needed(64, 784, 30, 10, 60_000), 64)


def test_the_memory_limit_of_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory().available
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    assert available_memory() == pytest.approx(free, rel=0.2)
    (tmp_path / "memory.current").write_text("300\n")
    for limit, expected in (("1000\n", 700), ("max\n", pytest.approx(free, rel=0.2))):
        (tmp_path / "memory.max").write_text(limit)
        assert available_memory() == expected


def test_the_memory_limit_of_a_control_group_of_version_1_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = psutil.virtual_memory().available
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    group = tmp_path / "memory"
    group.mkdir()
    (group / "memory.usage_in_bytes").write_text("300\n")
    for limit, expected in (("1000\n", 700), (f"{2**63 - 4096}\n", pytest.approx(free, rel=0.2))):
        (group / "memory.limit_in_bytes").write_text(limit)
        assert available_memory() == expected


@pytest.mark.parametrize(
    ("version", "files", "figure"),
    [
        ("", ("memory.max", "memory.current"), "inactive_file"),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
def test_files_that_were_read_do_not_count_as_used_memory(
    version: str, files: tuple[str, str], figure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    group = tmp_path / version
    group.mkdir(exist_ok=True)
    for name, text in zip((*files, "memory.stat"), ("1000\n", "900\n", f"anon 300\n{figure} 600\n"), strict=True):
        (group / name).write_text(text)
    assert available_memory() == 700


def memory_taken(config: RunConfig, data: CachedDataset) -> int:
    """Train many models, and return by how many bytes the process grew beyond its size after two models."""
    process = psutil.Process()
    train_run(config.model_copy(update={"seeds": "2"}), data)
    before, peak = process.memory_info().rss, 0

    def watch(*_: object) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)

    train_run(config, data, on_progress=watch)
    return int(peak - before)


def test_the_memory_estimate_of_400_models_is_close_to_what_they_take(sample: CachedDataset, tmp_path: Path) -> None:
    """Measured in a fresh process, because this one reuses memory that earlier tests have freed."""
    models = 400
    config = RunConfig(
        dataset="mnist-sample", steps=20, checkpoint_every=20, seeds=str(models), data_dir=str(tmp_path), engine="cpu"
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        taken = fresh.submit(memory_taken, config, sample).result()
    needed = memory_needed(models, 784, 30, 10, 4_000)
    assert needed / 5 < taken < needed


def score(seed: int, step: int, accuracy: float) -> CheckpointScore:
    return CheckpointScore(seed, step, accuracy, 0, 0.0, ())


def test_seed_statistics_describe_the_last_step() -> None:
    first = [score(seed, 1, 0.1) for seed in (1, 2, 3, 4)]
    last = [score(seed, 2, accuracy) for seed, accuracy in ((1, 0.92), (2, 0.93), (3, 0.85), (4, 0.90))]
    found = seed_statistics(Evaluation(2, (*first, *last), ()))
    assert asdict(found) == pytest.approx(
        {
            "mean": 0.90,
            "median": 0.91,
            "standard_deviation": float(np.std([0.92, 0.93, 0.85, 0.90], ddof=1)),
            "minimum": 0.85,
            "maximum": 0.93,
            "share_below_90_percent": 0.25,
        }
    )
    assert seed_statistics(Evaluation(1, (score(1, 1, 0.5),), ())).standard_deviation == 0


def test_the_runs_model_is_the_best_on_the_held_out_examples_and_not_on_the_test_images(
    sample: CachedDataset, tmp_path: Path
) -> None:
    config = RunConfig(
        dataset="mnist-sample", steps=400, checkpoint_every=200, seeds="1..6", data_dir=str(tmp_path), engine="cpu"
    )
    trained = train_run(config, sample)
    evaluation = evaluate_run(sample, trained)
    assert trained.validation_examples == 333
    images, labels = load_split(sample.train)
    held_out = Evaluator(CpuEngine(), images[-333:], labels[-333:], config.recipe)
    models = load_checkpoint(trained.checkpoints[-1].file)
    accuracies = {seed: held_out.accuracy(model) for seed, model in zip(trained.seeds, models, strict=True)}
    assert {each.seed: each.validation_accuracy for each in evaluation.final_scores} == accuracies
    assert accuracies[evaluation.seed] == max(accuracies.values())
    assert [each.step for each in evaluation.checkpoints] == [200, 400]
    assert len(evaluation.scores) == 12
    assert {each.seed for each in evaluation.checkpoints} == {evaluation.seed}
    best_on_test = max(evaluation.final_scores, key=lambda each: each.accuracy)
    turned = replace(evaluation, seed=best_on_test.seed)
    assert turned.final == best_on_test


def test_held_out_examples_are_never_trained_on(sample: CachedDataset, tmp_path: Path) -> None:
    config = RunConfig(
        dataset="mnist-sample", steps=300, checkpoint_every=300, validation_examples=100, data_dir=str(tmp_path)
    )
    (found,) = load_checkpoint(train_run(config, sample).checkpoints[-1].file)
    images, labels = load_split(sample.train)
    data, start = CpuEngine().load(images[:3_900], labels[:3_900]), initial_parameters(1, 784, 30, 10)
    (expected,) = train(config, data, [start], [ExampleOrder(1, 3_900, 10, config.recipe)])
    assert all(np.array_equal(a, b) for a, b in zip(found, expected.models[0], strict=True))


def test_on_every_core_keeps_the_order_and_raises_errors() -> None:
    assert on_every_core(lambda a, b: a - b, [5, 6, 7], [1, 2, 3]) == [4, 4, 4]
    assert on_every_core(str, [3]) == ["3"]
    with pytest.raises(ZeroDivisionError):
        on_every_core(lambda a: 1 / a, [1, 0])
