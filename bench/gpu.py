"""The CUDA engine on this machine's GPU: certified, then timed in turn with torch's eager operations on the same GPU.

    python -m bench.gpu

Needs a GPU, torch, triton, NumPy and pyarrow, and no data: the images are synthetic, as dense as digits (the kernel
computes zero pixels like any others). A time covers what a run waits for: the order of the examples uploaded, the
steps, the weights downloaded. The two engines take turns; kernels are compiled before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
import triton

from mnist_bp.engines.certificate import certify
from mnist_bp.engines.cuda import CudaEngine, unavailable_reason
from mnist_bp.engines.interface import ResidentData, unmoved
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.parameters import Model, initial_parameters
from mnist_bp.model.recipe import Recipe

INPUTS, HIDDEN, CLASSES, BATCH, IMAGES = 784, 30, 10, 10, 60_000
EAGER_DIVISOR: Final = 20
"""Eager steps are slow: they take one step for each of this many of the engine's."""


def training(data: ResidentData, models: int, steps: int) -> Callable[[], list[Model]]:
    """Return a call that trains some models for some steps, each from its own seed, in its own order."""
    starts = [initial_parameters(seed, INPUTS, HIDDEN, CLASSES) for seed in range(models)]
    draws = [np.random.RandomState(seed) for seed in range(models)]
    batches = [unmoved(draw.randint(IMAGES, size=(steps, BATCH)).astype(np.int64), 0.5) for draw in draws]
    return lambda: data.advance(starts, batches, Recipe())


def seconds_in_turn(calls: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Time calls in turn, after one of each that is not counted; return the seconds of every run for each call."""
    seconds: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for call, times in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if run:
                times.append(time.perf_counter() - started)
    return seconds


def line(name: str, figures: Sequence[float], digits: int) -> str:
    """Format one row: name, n, median, minimum and maximum."""
    found = (statistics.median(figures), min(figures), max(figures))
    return f"{name:<44}{len(figures):>4}" + "".join(f"{figure:>14,.{digits}f}" for figure in found)


def headings(unit: str) -> str:
    """Format the row above."""
    return f"\n{unit:<44}{'n':>4}{'median':>14}{'min':>14}{'max':>14}"


def print_times(engine: CudaEngine, models: Sequence[int], steps: int, runs: int) -> None:
    """Print microseconds per step of one model, then models per second for each number of models side by side."""
    draw = np.random.RandomState(1)
    images = draw.randint(1, 256, size=(IMAGES, INPUTS)).astype(np.uint8)
    images *= draw.random_sample(images.shape) < 0.19
    labels = draw.randint(CLASSES, size=IMAGES).astype(np.uint8)
    data, eager = (each.load(images, labels, CLASSES) for each in (engine, ReferenceEngine(engine.device)))
    few = max(1, steps // EAGER_DIVISOR)
    ours, theirs = seconds_in_turn([training(data, 1, steps), training(eager, 1, few)], runs)
    print(headings("us/step, one model"))
    print(line(f"cuda engine, {steps:,} steps", [each / steps * 1e6 for each in ours], 2))
    print(line(f"eager torch, {few:,} steps", [each / few * 1e6 for each in theirs], 2))
    print(line("times as fast", [b / few / (a / steps) for a, b in zip(ours, theirs, strict=True)], 1))

    print(headings(f"models/s, {steps:,} steps each"))
    for count in models:
        (seconds,) = seconds_in_turn([training(data, count, steps)], runs)
        print(line(f"cuda engine, {count:,} models", [count / each for each in seconds], 1))
    print(line("eager torch, one after another", [few / each / steps for each in theirs], 3))


def main() -> None:
    """Certify, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each (default: 7)")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of each model (default: 10,000)")
    parser.add_argument(
        "--models", type=int, nargs="+", help="models side by side (default: 1, then 1, 2 and 4 per multiprocessor)"
    )
    arguments = parser.parse_args()

    if not torch.cuda.is_available():
        sys.exit(f"bench.gpu: torch {torch.__version__} finds no CUDA device on this machine: nothing to measure")
    if reason := unavailable_reason():
        sys.exit(f"bench.gpu: the cuda engine cannot run on this machine: {reason}")
    gpu = torch.cuda.get_device_properties(0)
    cores = gpu.multi_processor_count
    print(f"{gpu.name}, {cores} multiprocessors, torch {torch.__version__}, triton {triton.__version__}")
    print(f"{INPUTS}-{HIDDEN}-{CLASSES}, batch {BATCH}, {IMAGES:,} images")
    engine = CudaEngine()
    certificate = certify(engine, precisions=("float32", "float64"))
    certificate.check()
    print(certificate.summary)
    print_times(engine, arguments.models or [1, cores, 2 * cores, 4 * cores], arguments.steps, arguments.runs)
    cycles = 2 * INPUTS * HIDDEN * BATCH / 128
    print(f"\nlower bound, one model: {cycles:,.0f} cycles per step (two products of x, 128 multiply-adds per cycle)")


if __name__ == "__main__":
    main()
