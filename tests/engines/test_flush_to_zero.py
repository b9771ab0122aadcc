"""Subnormal numbers are flushed in the kernels, and the caller's setting is restored."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from mnist_bp.engines.cpu import CpuData, CpuEngine
from mnist_bp.engines.flush_to_zero import FLUSH, FPCR, read_control, write_control
from mnist_bp.engines.interface import unmoved
from mnist_bp.model.parameters import Model, Parameters
from tests.support.networks import LAB
from tests.support.waiting import HANG_S

REPOSITORY = Path(__file__).parents[2]
PIXELS, HIDDEN, CLASSES, EXAMPLES = 8, 3, 2, 4

needs_register = pytest.mark.skipif(
    not FLUSH, reason=f"the kernels do not flush subnormal numbers on {platform.machine()}"
)


def _read() -> Any:
    return read_control()


def _write(value: int) -> None:
    write_control(value)


read: Any = cast(Any, njit)(_read)
write: Any = cast(Any, njit)(_write)


def images_of(pixel: int) -> CpuData:
    images = np.full((EXAMPLES, PIXELS), pixel, np.uint8)
    return CpuEngine().load(images, np.zeros(EXAMPLES, np.uint8), CLASSES)


def white_images() -> CpuData:
    return images_of(255)


def model_of(dtype: type, W1: float, W2: float = 0) -> Model:
    return Parameters(
        np.full((PIXELS, HIDDEN), W1, dtype),
        np.zeros(HIDDEN, dtype),
        np.full((HIDDEN, CLASSES), W2, dtype),
        np.zeros(CLASSES, dtype),
    )


def subnormal(dtype: type) -> float:
    return float(np.finfo(dtype).tiny) / 4


@needs_register
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("models", [1, 3], ids=["in the caller's thread", "in separate threads"])
def test_training_flushes_subnormal_numbers(dtype: type, models: int) -> None:
    """A learning rate of 0 changes no weight, so they are all kept without flush-to-zero, on every processor."""
    start = model_of(dtype, subnormal(dtype))
    assert np.all(start.W1 > 0)
    batches = [unmoved(np.zeros((1, 2), np.int64), 0.0)] * models
    trained = white_images().advance([start] * models, batches, LAB)
    assert all(np.all(after.W1 == 0) for after in trained)


@needs_register
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_flushes_subnormal_results_of_numbers_that_are_not(dtype: type) -> None:
    """The gradients of the hidden units are just large enough, and their products with a pixel of 1/255 are not."""
    start = model_of(dtype, 0)
    start.W2[:, 0] = 100 * np.finfo(dtype).tiny
    (after,) = images_of(1).advance([start], [unmoved(np.zeros((1, 1), np.int64), 0.5)], LAB)
    assert np.all(after.b1 != 0)
    assert np.all(after.W1 == 0)


@needs_register
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predicting_flushes_subnormal_numbers(dtype: type) -> None:
    """Pixels so large that the products with these weights are of the order of 1, unless the weights count as 0."""
    scale = 1 / (255 * PIXELS * subnormal(dtype))
    predicted = white_images().predict(model_of(dtype, subnormal(dtype), W2=1), "sigmoid", scale)
    assert predicted == pytest.approx(1 / (1 + np.exp(-HIDDEN / 2)))


@needs_register
@pytest.mark.parametrize("flush", [0, FLUSH], ids=["off", "on"])
def test_the_caller_keeps_its_own_setting(flush: int) -> None:
    data, original = white_images(), read()
    model = model_of(np.float32, 1, W2=1)
    try:
        write((original & ~FLUSH) | flush)
        mine = read()
        data.advance([model], [unmoved(np.zeros((1, 2), np.int64), 0.5)], LAB)
        after_training = read()
        data.predict(model, "sigmoid")
        after_predicting = read()
    finally:
        write(original)
    assert mine & FLUSH == flush
    assert (after_training, after_predicting) == (mine, mine)


OUT_OF_MEMORY = """
import resource
from pathlib import Path
import numpy as np
from tests.engines.test_flush_to_zero import LAB, model_of, read, unmoved, white_images

data, model = white_images(), model_of(np.float32, 1)
train = lambda batch_size: data.advance([model], [unmoved(np.zeros((1, batch_size), np.int64), 0.5)], LAB)
train(2)
before = read()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
try:
    train(4_000_000)
except MemoryError:
    print("out of memory", read() == before)
"""


@needs_register
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process by what /proc says it has")
def test_the_caller_keeps_its_own_setting_if_the_kernel_is_out_of_memory() -> None:
    result = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY],
        capture_output=True, text=True, timeout=HANG_S, check=False, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert result.stdout.strip() == "out of memory True", result.stderr


def test_arm64_reads_and_writes_its_own_register() -> None:
    number = ir.IntType(64)
    module = ir.Module()
    module.triple = "aarch64-unknown-linux-gnu"
    function = ir.Function(module, ir.FunctionType(number, []), "flush")
    builder = ir.IRBuilder(function.append_basic_block())
    before = FPCR.read(builder)
    FPCR.write(builder, builder.or_(before, ir.Constant(number, FPCR.flush)))
    builder.ret(before)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(module.triple).create_target_machine()
    code = machine.emit_assembly(llvm.parse_assembly(str(module)))
    first, second, third = (code.index(line) for line in ("\tmrs\tx0, ", "#0x1000000", "\tmsr\t"))
    assert first < second < third, code
    assert code.lower().count("fpcr") == 2
