"""The CPU engine: its cache of machine code, the processors it runs on, and its replacement where it cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
import pytest
from numba import njit

from mnist_bp.engines import cpu, numba_cache, numba_vectors, parallel
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.cpu_kernel import CompiledKernels
from mnist_bp.engines.interface import unmoved
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import FloatArray, UInt8Array, initial_parameters
from tests.support.networks import LAB
from tests.support.waiting import HANG_S

REPOSITORY = Path(__file__).parents[2]
STEP = """
import hashlib, time
import numpy as np
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import unmoved
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Recipe
images = (np.arange(40 * 50).reshape(40, 50) % 256).astype(np.uint8)
started = time.perf_counter()
engine, notice = choose_engine("auto")
data = engine.load(images, np.arange(40).astype(np.uint8) % 3, 3)
(after,) = data.advance([initial_parameters(1, 50, 6, 3)], [unmoved(np.arange(40).reshape(4, 10), 0.5)], Recipe())
print(engine.name, hashlib.sha256(b"".join(array.tobytes() for array in after)).hexdigest())
print(time.perf_counter() - started)
print(notice)
"""


def start(script: str = STEP, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, float, str]:
    printed, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, stderr
    result, seconds, notice = printed.splitlines()
    return result, float(seconds), notice


def machine_code(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.nbc"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache directory that a process compiled into, and the result of that process."""
    directory = tmp_path_factory.mktemp("compiled")
    return directory, finished(start(NUMBA_CACHE_DIR=str(directory)))[0]


def test_a_second_process_loads_the_compiled_code(compiled: tuple[Path, str]) -> None:
    directory, first = compiled
    written = [path.stat().st_mtime_ns for path in machine_code(directory)]
    assert finished(start(NUMBA_CACHE_DIR=str(directory)))[0] == first
    assert first.startswith("cpu ")
    assert len(written) == 3
    assert written == [path.stat().st_mtime_ns for path in machine_code(directory)]


@pytest.mark.slow
def test_two_processes_that_compile_at_once_do_not_disturb_each_other(
    compiled: tuple[Path, str], tmp_path: Path
) -> None:
    both = [start(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    results = {finished(process)[0] for process in both}
    assert results == {compiled[1]}
    assert finished(start(NUMBA_CACHE_DIR=str(tmp_path)))[0] == compiled[1]


@pytest.mark.parametrize("damage", [b"", b"not machine code", None])
def test_damaged_code_on_disk_is_compiled_again(
    damage: bytes | None, compiled: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(compiled[0], tmp_path, dirs_exist_ok=True)
    for path in [*tmp_path.rglob("*.nbc"), *tmp_path.rglob("*.nbi")]:
        path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    damaged = {path: path.read_bytes() for path in machine_code(tmp_path)}
    assert damaged
    assert finished(start(NUMBA_CACHE_DIR=str(tmp_path)))[0] == compiled[1]
    assert all(path.read_bytes() != content for path, content in damaged.items())


def test_without_a_writable_cache_directory_each_process_compiles_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr(numba_cache, "candidate_directories", lambda: iter([blocked, blocked / "below"]))
    numba_cache.cache_directory.cache_clear()
    try:
        assert numba_cache.cache_directory() is None
        signature = (numba.types.Array(numba.types.uint8, 1, "C"),)
        (function,) = numba_cache.compile_cached("test", (first_of, signature))
    finally:
        numba_cache.cache_directory.cache_clear()
    assert function(np.array([7], np.uint8)) == 7


def first_of(array: UInt8Array) -> int:
    return int(array[0])


def test_a_disk_that_is_full_when_the_cache_is_written_costs_only_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_index", full)  # the last write of numba's cache
    monkeypatch.setattr(numba_cache, "cache_directory", lambda: tmp_path)
    (function,) = numba_cache.compile_cached("full", (first_of, (numba.types.Array(numba.types.uint8, 1, "C"),)))
    assert function(np.array([7], np.uint8)) == 7


def test_other_sources_have_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba would check one file alone, and keep using the old vectors in the old kernels."""
    (tmp_path / "numba_vectors.py").write_text("one")
    monkeypatch.setattr(numba_cache, "SOURCES", tmp_path)
    digests = set()
    for content in ("one", "another", "one"):
        (tmp_path / "numba_vectors.py").write_text(content)
        numba_cache.sources_digest.cache_clear()
        digests.add(numba_cache.sources_digest())
    numba_cache.sources_digest.cache_clear()
    assert len(digests) == 2


WITHOUT_NUMBA = """
import sys
from importlib.abc import MetaPathFinder

class Without(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            raise {problem}

sys.meta_path.insert(0, Without())
"""


@pytest.mark.parametrize("problem", ["ModuleNotFoundError('no numba here')", "SystemError('built for another numpy')"])
def test_without_a_working_numba_the_reference_engine_is_used_and_the_notice_states_the_cost(problem: str) -> None:
    result, _, notice = finished(start(WITHOUT_NUMBA.format(problem=problem) + STEP))
    assert result.startswith("reference ")
    assert "takes about" in notice
    assert problem.split("'")[1] in notice


def test_if_numba_is_configured_not_to_compile_the_reference_engine_is_used() -> None:
    result, _, notice = finished(start(NUMBA_DISABLE_JIT="1"))
    assert result.startswith("reference ")
    assert "NUMBA_DISABLE_JIT is set" in notice


def test_the_cpu_engine_requested_by_name_is_refused_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mnist_bp.engines.cpu", None)
    with pytest.raises(ConfigError, match=r"engine cpu: numba cannot be used.*make setup, or use the reference engine"):
        choose_engine("cpu")


CERTIFY = """
from mnist_bp.engines.certificate import certify
from mnist_bp.engines.cpu import CpuEngine
print(certify(CpuEngine(), precisions=("float32", "float64")).failures)
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="compiles for other x86-64 processors")
def test_the_kernels_are_correct_without_avx512_and_without_fused_multiply_add(processor: str, tmp_path: Path) -> None:
    process = start(CERTIFY, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path))
    printed, stderr = process.communicate(timeout=HANG_S)
    assert printed.strip() == "[]", stderr


FOR_ARM64 = r"""
import re
import llvmlite.binding as llvm
from mnist_bp.engines import cpu_kernel, flush_to_zero, numba_cache

flush_to_zero.REGISTER = flush_to_zero.NONE  # the instructions of this machine; those of arm64 have their own test
for function in numba_cache.compile_functions(cpu_kernel.kernel_signatures("float32"), None):
    (code,) = function.inspect_llvm().values()
    module = llvm.parse_assembly(re.sub(r'"target-(cpu|features)"="[^"]*"|^target \w+ = .*$', "", code, flags=re.M))
    module.triple = "aarch64-unknown-linux-gnu"
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(module.triple).create_target_machine(cpu="generic", opt=3)
    print(len(re.findall(r"\tfmla\t", machine.emit_assembly(module))))
"""


@pytest.mark.slow
def test_the_kernels_compile_for_arm64_and_use_its_vectors() -> None:
    process = start(FOR_ARM64, NUMBA_OPT="0")  # not yet optimized for this machine
    printed, stderr = process.communicate(timeout=HANG_S)
    assert len(printed.split()) == 2, stderr
    assert all(int(count) > 50 for count in printed.split())


load, broadcast, zeros = numba_vectors.vector_ops(4)


def _sigmoid_of(z: FloatArray, a: FloatArray) -> None:
    for column in range(0, z.shape[1], 4):
        numba_vectors.store(a, 0, column, numba_vectors.sigmoid(load(z, 0, column)))


sigmoid_of: Any = cast(Any, njit)(_sigmoid_of)


@pytest.mark.parametrize(("dtype", "units"), [(np.float32, 3), (np.float64, 8)])
def test_the_sigmoid_is_accurate_to_the_last_digits_everywhere(dtype: type, units: int) -> None:
    info = np.finfo(dtype)
    z = np.concatenate([np.linspace(-80, 80, 40_001), [0, -0.0, info.tiny, -info.tiny, info.max, -info.max]])
    z = np.append(z, np.zeros(-len(z) % 4))[np.newaxis].astype(dtype)
    a = np.empty_like(z)
    sigmoid_of(z, a)
    exact = 1 / (1 + np.exp(-np.clip(z.astype(np.longdouble), -709, 709)))
    assert np.isfinite(a).all()
    assert (np.abs(a - exact) <= units * info.eps * exact + 2e-38).all()


def test_the_sigmoid_of_nan_is_nan() -> None:
    z = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    a = np.empty_like(z)
    sigmoid_of(z, a)
    assert np.isnan(a[0, 0])
    assert a[0, 1:].tolist() == pytest.approx([1.0, 0.0, 0.7310586])


def test_models_are_trained_on_separate_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    meeting = threading.Barrier(2, timeout=HANG_S)

    def train(*_: object) -> None:
        threads.add(threading.get_ident())
        meeting.wait()

    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(cpu, "compiled_kernels", lambda _: CompiledKernels(train, train))
    data = CpuEngine().load(np.ones((4, 8), np.uint8), np.zeros(4, np.uint8), 2)
    models = [initial_parameters(seed, 8, 3, 2) for seed in (1, 2)]
    data.advance(models, [unmoved(np.zeros((1, 2), np.int64), 0.5)] * 2, LAB)
    assert len(threads) == 2


def test_a_dataset_in_read_only_memory_trains_to_the_same_bits_and_is_not_copied() -> None:
    draw = np.random.RandomState(1)
    images, labels = draw.randint(256, size=(40, 16)).astype(np.uint8), draw.randint(3, size=40).astype(np.uint8)
    batches, model = unmoved(draw.randint(40, size=(20, 5)), 0.5), initial_parameters(1, 16, 5, 3)
    (expected,) = CpuEngine().load(images.copy(), labels.copy(), 3).advance([model], [batches], LAB)
    for array in (images, labels, *batches):
        array.flags.writeable = False
    data = CpuEngine().load(images, labels, 3)
    data.words.flags.writeable = data.starts.flags.writeable = False
    (found,) = data.advance([model], [batches], LAB)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert np.shares_memory(data.labels, labels)
    data.predict(found, "sigmoid")
