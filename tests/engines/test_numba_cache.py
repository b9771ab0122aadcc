"""Machine code on disk is proved before it is executed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import HANG_S

REPOSITORY = Path(__file__).parents[2]

CACHED = """
import os, sys
from pathlib import Path
import numba
import numpy as np
from numba.core.event import install_recorder
from mnist_bp.engines import numba_cache
from tests.engines.test_numba_cache import weighted_sum

SIGNATURE = (numba.types.Array(numba.types.int64, 1, "C"),)

def loaded():
    with install_recorder("numba:compile") as compiled:
        (function,) = numba_cache.compile_cached("test", (weighted_sum, SIGNATURE))
    assert function(np.arange(5)) == 40
    return not compiled.buffer
"""

FLIPS = (
    CACHED
    + """
assert not loaded() and loaded()
files = [path for path in Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*") if path.is_file() and path.stat().st_size]
originals = {path: path.read_bytes() for path in files}
outcomes = {}
for path, original in originals.items():
    for flip in range(int(sys.argv[1])):
        bit = (2 * flip + 1) * len(original) * 8 // (2 * int(sys.argv[1]))
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        child = os.fork()
        if child == 0:
            os._exit(10 if not loaded() and path.read_bytes() != damaged else 20)
        outcome = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes.setdefault((path.suffix, outcome), []).append(bit)
        for each in files:
            each.write_bytes(originals[each])
print(*sorted((suffix, outcome, len(bits)) for (suffix, outcome), bits in outcomes.items()))
"""
)


def weighted_sum(array: object) -> int:
    total = 0
    for i in range(len(array)):  # type: ignore[arg-type]
        total += array[i] * (i + 1)  # type: ignore[index]
    return total


def run(script: str, directory: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, timeout=HANG_S, check=False, cwd=REPOSITORY,
        env={**os.environ, "NUMBA_CACHE_DIR": str(directory), "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_after_any_flipped_bit_the_code_is_compiled_again_and_no_process_dies(tmp_path: Path) -> None:
    """Three files: numba's index, the machine code, and the digests of both."""
    found = run(FLIPS, tmp_path, "20")
    assert found == "('', 10, 20) ('.nbc', 10, 20) ('.nbi', 10, 20)"


def test_code_without_digests_is_compiled_again(tmp_path: Path) -> None:
    """As an earlier version left it, or a process that was killed before it wrote the digests."""
    assert run(CACHED + "print(loaded(), loaded())", tmp_path) == "False True"
    (digests,) = tmp_path.glob("*/SHA256SUMS")
    expected = digests.read_text()
    digests.unlink()
    assert run(CACHED + "print(loaded(), loaded())", tmp_path) == "False True"
    assert len(digests.read_text().splitlines()) == len(expected.splitlines()) == 2


def test_loaded_code_takes_the_types_it_was_compiled_for_and_is_not_compiled_for_others(tmp_path: Path) -> None:
    script = """
(function,) = numba_cache.compile_cached("test", (weighted_sum, SIGNATURE))
try:
    print(function(np.zeros(5)))
except TypeError as exc:
    print(str(exc).splitlines()[0])
"""
    compiled, loaded = (run(CACHED + script, tmp_path) for _ in range(2))
    assert compiled == loaded == "No matching definition for argument type(s) array(float64, 1d, C)"


def test_code_for_another_processor_is_kept_next_to_that_for_this_one(tmp_path: Path) -> None:
    """As in a directory that machines share."""
    other = "import os; os.environ['NUMBA_CPU_NAME'], os.environ['NUMBA_CPU_FEATURES'] = 'generic', ''\n"
    first = [run(script + CACHED + "print(loaded())", tmp_path) for script in ("", other)]
    again = [run(script + CACHED + "print(loaded())", tmp_path) for script in ("", other)]
    assert (first, again) == (["False", "False"], ["True", "True"])


def test_a_process_that_loaded_one_function_can_compile_another_one(tmp_path: Path) -> None:
    run(CACHED + "loaded()", tmp_path)
    script = CACHED + "assert loaded()\nprint(numba.njit(lambda n: np.zeros(n).sum() + len([n]))(3))"
    assert run(script, tmp_path) == "1.0"


def test_numba_is_given_no_other_directory_than_the_proved_one(tmp_path: Path) -> None:
    chosen = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator", "XDG_CACHE_HOME": str(tmp_path / "other")}
    script = f"import os; os.environ.update({chosen})\n" + CACHED + "print(loaded(), loaded())"
    assert run(script, tmp_path / "cache") == "False True"
    assert not (tmp_path / "other").exists()


def test_compiling_imports_no_blas_and_hides_none(tmp_path: Path) -> None:
    script = CACHED + "loaded(); print('scipy.linalg' in sys.modules); import scipy.linalg.cython_blas; print('yes')"
    assert run(script, tmp_path).split() == ["False", "yes"]


def test_compiling_is_logged_once_on_a_machine(tmp_path: Path) -> None:
    logging = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stdout)\n"
    first, again = (run(CACHED + logging + "loaded()", tmp_path) for _ in range(2))
    assert first == "train       compiling the kernels of the cpu engine (test), once on this machine"
    assert again == ""
