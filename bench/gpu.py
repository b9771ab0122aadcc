"""The CUDA engine on this machine's GPU: certified first, then timed against torch's eager operations on the same GPU.

    python -m bench.gpu

Needs a GPU, torch, triton, numpy and pyarrow, and no data: the images are made up, as dense as digits (the kernel
computes zero pixels like any others). A time covers what a run waits for: the order of the examples uploaded, the
steps, the weights back. The two engines take turns; what compiles is compiled before.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import triton

from mnist_bp.engines.certificate import certify
from mnist_bp.engines.cuda import CudaEngine, unavailable_reason
from mnist_bp.engines.interface import ResidentData
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.parameters import Model, Parameters, initial_parameters

INPUTS, HIDDEN, CLASSES, BATCH, IMAGES = 784, 30, 10, 10, 60_000
EAGER_SHARE = 20
"""Eager steps are slow: one for so many of the engine's is enough to time."""


def train(data: ResidentData, models: int, steps: int) -> Callable[[], list[Model]]:
    """Make a call that trains so many models for so many steps, each from its own start, in its own order."""
    starts = [initial_parameters(seed, INPUTS, HIDDEN, CLASSES) for seed in range(models)]
    orders = [
        np.random.RandomState(seed).randint(IMAGES, size=(steps, BATCH)).astype(np.int64) for seed in range(models)
    ]
    return lambda: data.advance(starts, orders, learning_rate=0.5, bias_gradient="mean")


def seconds_in_turn(calls: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Time calls in turn, after one of each that is not counted.

    Returns:
        For each call, seconds of every run.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for call, times in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if run:
                times.append(time.perf_counter() - started)
    return seconds


def line(name: str, figures: Sequence[float], digits: int) -> str:
    """Lay out one row: n, median, least and most."""
    found = (statistics.median(figures), min(figures), max(figures))
    return f"{name:<44}{len(figures):>4}" + "".join(f"{figure:>14,.{digits}f}" for figure in found)


def header(unit: str) -> str:
    """Lay out the row above."""
    return f"\n{unit:<44}{'n':>4}{'median':>14}{'min':>14}{'max':>14}"


def print_certificate(engine: CudaEngine) -> None:
    """Print the errors of every gradient, and stop if any is beyond its limit."""
    started = time.perf_counter()
    found = certify(engine, precisions=("float32", "float64"))
    print(f"\ncertificate (compiling included: {time.perf_counter() - started:.1f} s)")
    for dtype, parameters in found.gradients.items():
        for name, judges in parameters.items():
            errors = ", ".join(f"{error:.1e} from {judge}" for judge, error in judges.items())
            print(f"  d{name} in {dtype}: {errors}")
    for name, each in found.weights.items():
        print(f"  {name} after {found.steps} steps: " + ", ".join(f"{key} {error:.1e}" for key, error in each.items()))
    found.check()


def print_initial_parameters(seed: int) -> None:
    """Compare the initial parameters with those of torch's own generator on this GPU."""
    torch.cuda.manual_seed(seed)
    print(f"\ninitial parameters of seed {seed} against torch's normal_ on this GPU")
    ours = initial_parameters(seed, INPUTS, HIDDEN, CLASSES)
    for name, found in zip(Parameters._fields, ours, strict=True):
        theirs = torch.empty(found.shape, device="cuda").normal_().cpu().numpy()
        units = np.abs(found.view(np.int32).astype(np.int64) - theirs.view(np.int32)).max()
        same, far = int((found == theirs).sum()), np.abs(found - theirs).max()
        print(f"  {name}: {same:,} of {found.size:,} to the bit, the others within {units} last digits, {far:.1e}")


def print_times(engine: CudaEngine, models: Sequence[int], steps: int, runs: int) -> None:
    """Print microseconds per step of one model, then models per second of several."""
    draw = np.random.RandomState(1)
    images = draw.randint(1, 256, size=(IMAGES, INPUTS)).astype(np.uint8)
    images *= draw.random_sample(images.shape) < 0.19
    labels = draw.randint(CLASSES, size=IMAGES).astype(np.uint8)
    data, eager = (each.load(images, labels, CLASSES) for each in (engine, ReferenceEngine(engine.device)))
    few = max(1, steps // EAGER_SHARE)
    ours, theirs = seconds_in_turn([train(data, 1, steps), train(eager, 1, few)], runs)
    print(header("us/step, one model"))
    print(line(f"cuda engine, {steps:,} steps", [each / steps * 1e6 for each in ours], 2))
    print(line(f"eager torch, {few:,} steps", [each / few * 1e6 for each in theirs], 2))
    print(line("times as fast", [b / few / (a / steps) for a, b in zip(ours, theirs, strict=True)], 1))

    print(header(f"models/s, {steps:,} steps each"))
    for count in models:
        (seconds,) = seconds_in_turn([train(data, count, steps)], runs)
        print(line(f"cuda engine, {count:,} models", [count / each for each in seconds], 1))
    print(line("eager torch, one after another", [few / each / steps for each in theirs], 3))


def main() -> None:
    """Certify, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each (default: 7)")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of each model (default: 10,000)")
    parser.add_argument(
        "--models",
        type=int,
        nargs="+",
        help="models side by side (default: 1, then 1, 2 and 4 per multiprocessor)",
    )
    arguments = parser.parse_args()

    if not torch.cuda.is_available():
        sys.exit(f"bench.gpu: torch {torch.__version__} finds no CUDA device on this machine: nothing to measure")
    if reason := unavailable_reason():
        sys.exit(f"bench.gpu: the cuda engine cannot run here: {reason}")
    gpu = torch.cuda.get_device_properties(0)
    cores = gpu.multi_processor_count
    print(f"{gpu.name}, {cores} multiprocessors, torch {torch.__version__}, triton {triton.__version__}")
    print(f"{INPUTS}-{HIDDEN}-{CLASSES}, batch {BATCH}, {IMAGES:,} images")
    engine = CudaEngine()
    print_certificate(engine)
    print_initial_parameters(seed=1)
    print_times(engine, arguments.models or [1, cores, 2 * cores, 4 * cores], arguments.steps, arguments.runs)
    cycles = 2 * INPUTS * HIDDEN * BATCH / 128
    print(f"\nfloor on paper, one model: {cycles:,.0f} cycles a step (two products of x, 128 multiply-adds a cycle)")


if __name__ == "__main__":
    main()
