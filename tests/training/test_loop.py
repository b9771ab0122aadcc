"""The training loop with every engine: the lab's update rule, the order of examples, equal bits, divergence."""

from __future__ import annotations

import hashlib
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.interface import Batches, Engine, ResidentData
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.errors import DivergenceError
from mnist_bp.model.backprop import forward
from mnist_bp.model.parameters import FloatArray, Model, Parameters, initial_parameters
from mnist_bp.model.recipe import Activation, Recipe
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.evaluation import Evaluator
from mnist_bp.training.loop import CHUNK_STEPS, Checkpoint, ExampleOrder, train
from mnist_bp.training.shifts import Shifts
from tests.support.networks import CPU_ENGINES

REPOSITORY = Path(__file__).parents[2]

every_engine = pytest.mark.parametrize("engine", CPU_ENGINES, ids=lambda engine: engine.name)


def settings_of(**changes: object) -> RunConfig:
    return RunConfig.model_validate({"dataset": "mnist-sample", "steps": 300, "checkpoint_every": 100, **changes})


def training(
    config: RunConfig, engine: Engine, data: CachedDataset, on_progress: Callable[[int, float], None] | None = None
) -> Iterator[Checkpoint]:
    images, labels = load_split(data.train)
    recipe, shifts = config.recipe, Shifts(images, 28, config.shift) if config.shift else None
    models = [initial_parameters(seed, 784, config.hidden, 10, recipe.gain) for seed in config.seed_list]
    orders = [ExampleOrder(seed, len(images), config.batch_size, recipe, shifts) for seed in config.seed_list]
    return train(config, engine.load(images, labels), models, orders, on_progress)


def run(engine: Engine, data: CachedDataset, **changes: object) -> list[Checkpoint]:
    return list(training(settings_of(**changes), engine, data))


def bits(models: Sequence[Model]) -> list[bytes]:
    return [array.tobytes() for model in models for array in model]


def sha256_of(models: Sequence[Model]) -> str:
    return hashlib.sha256(b"".join(bits(models))).hexdigest()


@every_engine
@pytest.mark.parametrize("bias_gradient", ["mean", "sum"])
def test_three_steps_are_those_of_the_lab_with_gradients_from_autograd(
    bias_gradient: str, engine: Engine, sample: CachedDataset
) -> None:
    images, labels = map(torch.from_numpy, load_split(sample.train))
    (found,) = run(engine, sample, steps=3, bias_gradient=bias_gradient)
    start = initial_parameters(1, 784, 30, 10)
    leaves = [torch.from_numpy(array).double().requires_grad_() for array in start]
    for batch in torch.from_numpy(ExampleOrder(1, len(images), 10, Recipe()).batches(0, 3).rows):
        t = torch.eye(10, dtype=torch.float64)[labels[batch].long()]
        a2 = forward(Parameters(*leaves), images[batch].double() / 255, "sigmoid").a2
        gradients = torch.autograd.grad(((a2 - t) ** 2).sum() / 2, leaves)
        divisors = [1, 10, 1, 10] if bias_gradient == "mean" else [1, 1, 1, 1]
        leaves = [
            (leaf - 0.5 * gradient / divisor).detach().requires_grad_()
            for leaf, gradient, divisor in zip(leaves, gradients, divisors, strict=True)
        ]
    for array, expected in zip(found.models[0], leaves, strict=True):
        np.testing.assert_allclose(array, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@every_engine
def test_models_are_yielded_at_every_checkpoint_and_after_the_last_step(engine: Engine, sample: CachedDataset) -> None:
    assert [point.step for point in run(engine, sample, steps=250)] == [100, 200, 250]
    assert [point.step for point in run(engine, sample, steps=100)] == [100]
    assert [point.step for point in run(engine, sample, steps=7)] == [7]


@every_engine
def test_checkpoints_hold_different_weights(engine: Engine, sample: CachedDataset) -> None:
    assert len({sha256_of(point.models) for point in run(engine, sample)}) == 3


@every_engine
def test_where_checkpoints_fall_changes_no_bit(engine: Engine, sample: CachedDataset) -> None:
    often = run(engine, sample, steps=CHUNK_STEPS + 70, checkpoint_every=37)[-1]
    once = run(engine, sample, steps=CHUNK_STEPS + 70, checkpoint_every=10**9)[-1]
    assert bits(often.models) == bits(once.models)


@every_engine
def test_a_model_is_the_same_trained_alone_and_among_others(engine: Engine, sample: CachedDataset) -> None:
    together = run(engine, sample, seeds="3..7")
    for place, seed in enumerate(range(3, 8)):
        alone = run(engine, sample, seed=seed)
        assert [bits([point.models[place]]) for point in together] == [bits(point.models) for point in alone]


@every_engine
def test_same_seed_gives_the_same_bits_twice_in_a_row(engine: Engine, sample: CachedDataset) -> None:
    assert bits(run(engine, sample)[-1].models) == bits(run(engine, sample)[-1].models)


@every_engine
def test_same_seed_gives_the_same_bits_in_another_process(engine: Engine, sample: CachedDataset) -> None:
    script = (
        "import sys\n"
        "from mnist_bp.engines.choose import choose_engine\n"
        "from mnist_bp.results.common import FileDigest\n"
        "from mnist_bp.data.parquet import load_split\n"
        "from tests.training.test_loop import *\n"
        "images, labels = load_split(FileDigest(sys.argv[2], sys.argv[3], int(sys.argv[4])))\n"
        "engine, _ = choose_engine(sys.argv[1])\n"
        "start, order = initial_parameters(1, 784, 30, 10), ExampleOrder(1, len(images), 10, Recipe())\n"
        "print(sha256_of(list(train(settings_of(), engine.load(images, labels), [start], [order]))[-1].models))\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", script, engine.name, sample.train.path, sample.train.sha256, str(sample.train.size)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert other.stdout.strip() == sha256_of(run(engine, sample)[-1].models)


@every_engine
def test_only_the_seed_and_the_training_settings_change_the_weights(engine: Engine, sample: CachedDataset) -> None:
    base = bits(run(engine, sample)[-1].models)
    assert base == bits(run(engine, sample, data_dir="elsewhere", artifacts="elsewhere")[-1].models)
    second = (
        {"initial": "scaled"},
        {"loss": "cross_entropy"},
        {"activation": "relu"},
        {"schedule": "linear"},
        {"shift": 1},
    )
    for change in ({"seed": 2}, {"learning_rate": 0.4}, {"bias_gradient": "sum"}, {"batch_size": 11}, *second):
        assert base != bits(run(engine, sample, **change)[-1].models), change


@given(
    examples=st.integers(1, 50),
    batch_size=st.integers(1, 50),
    start=st.integers(0, 60),
    length=st.integers(1, 60),
    cut=st.integers(0, 60),
)
def test_batches_of_a_range_do_not_depend_on_where_it_is_cut(
    examples: int, batch_size: int, start: int, length: int, cut: int
) -> None:
    batch_size = min(batch_size, examples)
    stop, middle = start + length, min(start + cut, start + length)
    whole = ExampleOrder(3, examples, batch_size, Recipe()).batches(start, stop).rows
    assert whole.shape == (length, batch_size)
    order = ExampleOrder(3, examples, batch_size, Recipe())
    pieces = [order.batches(*ends).rows for ends in ((start, middle), (middle, stop)) if ends[0] < ends[1]]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_an_epoch_shows_every_example_once_and_drops_the_last_partial_batch() -> None:
    order = ExampleOrder(1, 25, 10, Recipe())
    epochs = [order.batches(2 * epoch, 2 * epoch + 2).rows.flatten().tolist() for epoch in range(3)]
    for epoch in epochs:
        assert len(epoch) == 20
        assert len(set(epoch)) == 20
    assert len({tuple(epoch) for epoch in epochs}) == 3


@dataclass(frozen=True)
class GrowingData:
    """Multiplies every weight by ten at each step, so that float32 overflows at a known step."""

    def advance(self, models: Sequence[Model], batches: Sequence[Batches], _: Recipe) -> list[Model]:
        grown = []
        for model, order in zip(models, batches, strict=True):
            factor = np.float32(10) ** np.float32(len(order.rows))
            with np.errstate(over="ignore"):
                grown.append(Parameters(*(array * factor for array in model)))
        return grown

    def predict(self, model: Model, activation: Activation, scale: float = 1.0) -> FloatArray:
        raise NotImplementedError


def test_a_diverged_run_names_its_step_and_its_seed_and_keeps_the_checkpoints_before_it() -> None:
    start = initial_parameters(5, 784, 30, 10)
    tame: Model = start.map(np.zeros_like)
    overflow = math.ceil(math.log10(float(np.finfo(np.float32).max) / max(float(abs(array).max()) for array in start)))
    data: ResidentData = GrowingData()
    kept: list[int] = []
    config, orders = settings_of(steps=500, checkpoint_every=10), [ExampleOrder(n, 40, 10, Recipe()) for n in (4, 5)]
    with pytest.raises(DivergenceError, match=rf"diverged at step {overflow}:.*seed 5,"):
        kept.extend(point.step for point in train(config, data, [tame, start], orders))
    assert kept == [10, 20, 30]


@every_engine
def test_a_learning_rate_at_the_limit_of_float32_diverges(engine: Engine, sample: CachedDataset) -> None:
    with pytest.raises(DivergenceError, match=r"diverged at step \d+:.*learning rate 3e\+38"):
        run(engine, sample, learning_rate=3e38, batch_size=200)


@every_engine
def test_progress_is_reported_and_never_decreases(engine: Engine, sample: CachedDataset) -> None:
    reported: list[tuple[int, float]] = []
    config = settings_of(steps=2 * CHUNK_STEPS + 5, checkpoint_every=10**6)
    list(training(config, engine, sample, lambda *now: reported.append(now)))
    assert [step for step, _ in reported] == [CHUNK_STEPS, 2 * CHUNK_STEPS, 2 * CHUNK_STEPS + 5]
    assert all(0 < before[1] <= after[1] for before, after in pairwise(reported))


def test_the_reference_engine_restores_the_number_of_threads(sample: CachedDataset) -> None:
    before = torch.get_num_threads()
    run(ReferenceEngine(), sample)
    assert torch.get_num_threads() == before


def test_the_reference_engine_computes_its_steps_on_one_thread(
    sample: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()

    def watched(*args: Any) -> Any:
        seen.add(torch.get_num_threads())
        return forward(*args)

    monkeypatch.setattr("mnist_bp.engines.reference.forward", watched)
    run(ReferenceEngine(), sample, steps=3)
    assert seen == {1}


@every_engine
def test_progress_is_reported_more_often_for_large_batches(engine: Engine, sample: CachedDataset) -> None:
    reported: list[int] = []
    config = settings_of(steps=60, batch_size=4000, checkpoint_every=10**6)
    list(training(config, engine, sample, lambda step, _: reported.append(step)))
    assert reported == [25, 50, 60]


def test_training_seconds_agree_with_the_clock(sample: CachedDataset) -> None:
    started = time.perf_counter()
    seconds = run(ReferenceEngine(), sample, steps=1000)[-1].seconds
    passed = time.perf_counter() - started
    assert passed / 3 < seconds < passed


@pytest.mark.slow
@every_engine
def test_memory_does_not_grow_with_the_number_of_steps(engine: Engine, sample: CachedDataset) -> None:
    run(engine, sample, steps=2_000, checkpoint_every=500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(engine, sample, steps=20_000, checkpoint_every=5_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 20e6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_reference_engine_on_a_gpu_stays_close_to_the_cpu(sample: CachedDataset) -> None:
    (on_gpu,), (on_cpu,) = (run(ReferenceEngine(device), sample, steps=20) for device in ("cuda", "cpu"))
    for found, expected in zip(on_gpu.models[0], on_cpu.models[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@every_engine
def test_lab_8_4_on_mnist_ends_in_the_range_that_64_orders_span(engine: Engine, mnist: CachedDataset) -> None:
    """Over 64 shuffle orders from this initialization: 0.902 to 0.932 on all test images, 872 to 921 of 1,000."""
    points = run(engine, mnist, steps=10_000, checkpoint_every=1_000)
    score = Evaluator(engine, *load_split(mnist.test), Recipe()).score(1, points[-1].step, points[-1].models[0])
    assert score.lab_correct_of_1000 is not None
    assert len(points) == 10
    assert 0.902 <= score.accuracy <= 0.932
    assert 872 <= score.lab_correct_of_1000 <= 921
    assert math.isclose(sum(score.accuracy_per_class) / 10, score.accuracy, abs_tol=0.01)


@pytest.mark.slow
def test_24_seeds_end_in_the_same_distribution_with_either_engine(mnist: CachedDataset) -> None:
    """Kolmogorov-Smirnov test of the accuracies: 24 and 24 equal draws differ by more than 0.46 in 1 of 100 cases."""
    accuracies = []
    for engine in (ReferenceEngine(), CpuEngine()):
        models = run(engine, mnist, steps=10_000, checkpoint_every=10_000, seeds="1..24")[-1].models
        evaluator = Evaluator(CpuEngine(), *load_split(mnist.test), Recipe())
        accuracies.append(np.sort([evaluator.accuracy(model) for model in models]))
    assert all(np.median(each) >= 0.92 for each in accuracies)
    steps = np.concatenate(accuracies)
    shares = [np.searchsorted(each, steps, side="right") / 24 for each in accuracies]
    assert abs(shares[0] - shares[1]).max() < 0.46
