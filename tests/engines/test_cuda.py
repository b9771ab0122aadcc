"""The CUDA engine: its properties in Triton's interpreter and on a GPU, its machine code, and when it is refused."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench import gpu
from mnist_bp import engines
from mnist_bp.engines import cuda, cuda_kernel
from mnist_bp.engines.certificate import certify
from mnist_bp.engines.choose import MODELS_FOR_GPU, choose_engine
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import initial_parameters
from tests.engines import cuda_claims

REPOSITORY = Path(__file__).parents[2]
CLAIMS = sorted(name for name in vars(cuda_claims) if name.startswith("test_"))
HAS_GPU = torch.cuda.is_available()

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")]
PLACES = [  # on a GPU, each of some 40 shapes is compiled
    "interpreter",
    pytest.param("gpu", marks=[*needs_gpu, pytest.mark.timeout(900)]),
]


@pytest.fixture(scope="module", params=PLACES)
def failures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Check every claim in a separate process, because Triton decides when it is imported whether it interprets.

    Returns:
        For each claim, a text for each of its cases: what failed, or empty.
    """
    report = tmp_path_factory.mktemp("claims") / "report.xml"
    settings = {"TRITON_INTERPRET": "1"} if request.param == "interpreter" else {}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", cuda_claims.__file__, "-q", "-p", "no:cacheprovider", f"--junit-xml={report}"],
        capture_output=True, text=True, cwd=REPOSITORY, env={**os.environ, **settings},
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stdout + run.stderr
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problem = next(iter(case), None)
        name, _, arguments = case.attrib["name"].partition("[")
        found.setdefault(name, []).append("" if problem is None else f"[{arguments}: {problem.text}")
    return found


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_of_the_engine_holds(claim: str, failures: dict[str, list[str]]) -> None:
    assert failures[claim]
    assert not any(failures[claim]), "\n".join(failures[claim])


def test_compiled_for_an_h100_the_kernel_keeps_a_model_of_the_lab_in_registers(tmp_path: Path) -> None:
    """No registers are spilled, and 256 threads of 255 registers fit on one multiprocessor."""
    sizes = cuda.tiling(784, 30, 10, 10)
    constants = {"H": 30, "K": 10, "B": 10, **sizes._asdict(), "MEAN": True}
    types = {
        "images": "*i32",
        "labels": "*i64",
        "order": "*i32",
        "steps": "i32",
        **dict.fromkeys(constants, "constexpr"),
    }
    names = cuda_kernel.train.arg_names
    source = ASTSource(
        cuda_kernel.train,
        {name: types.get(name, "*fp32") for name in names},
        constexprs=constants,
        attrs={
            (i,): [["tt.divisibility", 16]]
            for i, name in enumerate(names)
            if name.endswith(("images", "labels", "order", "_at"))
        },
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(cuda.LAUNCH))
    (tmp_path / "kernel").write_bytes(compiled.asm["cubin"])
    report = subprocess.run(
        [triton.knobs.nvidia.cuobjdump.path, "-res-usage", "-sass", "kernel"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert int(re.search(r"REG:(\d+)", report)[1]) * 32 * cuda.LAUNCH["num_warps"] <= 65_536  # type: ignore[index]
    assert re.search(r"STACK:(\d+)", report)[1] == "0"  # type: ignore[index]
    assert not re.search(r"\b(LDL|STL)\b", report)
    assert re.search(r"\bFFMA\b", report)
    assert not re.search(r"\bHMMA\b|\bHGMMA\b", report)  # float32 on tensor cores would be TF32
    assert len(re.findall(r"\bBAR\b", report)) < 30
    assert compiled.metadata.shared <= 227 * 1024


@pytest.mark.parametrize(
    ("shape", "figures"),
    [
        ((784, 129, 10, 10), r"129 hidden units do not fit: expected at most 128"),
        ((784, 30, 33, 10), r"33 classes do not fit: expected at most 32"),
        ((784, 30, 10, 17), r"17 images in a batch do not fit: expected at most 16"),
        ((784, 33, 10, 10), r"784 inputs by 33 hidden units, 65,536 weights .* do not fit: expected at most 32,768"),
        ((1025, 30, 10, 10), r"1,025 inputs by 30 hidden units, 49,152 weights"),
    ],
)
def test_a_network_too_large_for_the_chip_is_refused_with_the_figure(
    shape: tuple[int, int, int, int], figures: str
) -> None:
    assert not cuda.fits(*shape)
    with pytest.raises(ConfigError, match=rf"{figures}.*use the engine reference"):
        cuda.tiling(*shape)


@pytest.mark.parametrize("shape", [(784, 30, 10, 10), (1024, 32, 32, 16), (512, 64, 10, 1), (256, 128, 26, 16)])
def test_a_network_that_fits_is_accepted(shape: tuple[int, int, int, int]) -> None:
    assert cuda.fits(*shape)


@pytest.mark.skipif(HAS_GPU, reason="there is a CUDA device")
def test_without_a_gpu_the_benchmark_prints_one_line_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.gpu"])
    with pytest.raises(SystemExit, match=r"^bench\.gpu: torch .* finds no CUDA device on this machine.*$") as stopped:
        gpu.main()
    assert "\n" not in str(stopped.value.code)  # SystemExit with a text: it is printed, and the exit code is 1


@pytest.mark.parametrize(
    ("models", "hidden", "usable", "chosen"),
    [
        (1, 30, True, "cpu"),
        (MODELS_FOR_GPU - 1, 30, True, "cpu"),
        (MODELS_FOR_GPU, 30, True, "cuda"),
        (MODELS_FOR_GPU, 33, True, "cpu"),  # does not fit on the chip
        (MODELS_FOR_GPU, 30, False, "cpu"),  # a torch that cannot use the GPU
    ],
)
def test_auto_chooses_the_gpu_for_many_models_that_fit_on_it(
    models: int, hidden: int, usable: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_bp.engines.choose._has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(cuda, "unavailable_reason", lambda: None)
    engine, notice = choose_engine("auto", hidden, 10, models)
    assert (engine.name, notice) == (chosen, None)


@pytest.mark.skipif(HAS_GPU, reason="there is a CUDA device")
def test_without_a_gpu_the_engine_states_it_and_is_refused() -> None:
    assert "finds no CUDA device" in str(cuda.unavailable_reason())
    with pytest.raises(ConfigError, match=r"engine cuda: torch .* finds no CUDA device.*use the reference engine"):
        cuda.CudaEngine().load(np.zeros((1, 4), np.uint8), np.zeros(1, np.uint8))


def test_a_triton_that_cannot_be_imported_is_named_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(engines, "cuda_kernel")
    monkeypatch.setitem(sys.modules, "mnist_bp.engines.cuda_kernel", None)
    monkeypatch.setitem(sys.modules, "cuda_without_triton", None)
    spec = importlib.util.spec_from_file_location("cuda_without_triton", cuda.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cuda_without_triton", module)
    spec.loader.exec_module(module)
    assert re.match(r"triton cannot be imported \(ModuleNotFoundError: ", module.unavailable_reason())


def test_a_kernel_that_cannot_be_launched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unlaunchable:
        def __getitem__(self, grid: tuple[int, ...]) -> object:
            raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(cuda_kernel, "INTERPRETED", True)
    monkeypatch.setattr(cuda_kernel, "probe", Unlaunchable())
    cuda.unavailable_reason.cache_clear()
    try:
        assert cuda.unavailable_reason() == "triton cannot launch a kernel (RuntimeError: Failed to find C compiler)"
    finally:
        cuda.unavailable_reason.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
def test_on_the_gpu_the_certificate_passes_in_both_precisions() -> None:
    assert certify(cuda.CudaEngine(), precisions=("float32", "float64")).failures == []


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("seed", [1, 2, 12345])
def test_the_initial_parameters_are_those_of_torch_on_a_gpu(seed: int) -> None:
    """In the order W1, b1, W2, b2; the GPU's own sine and logarithm have fewer digits; the limit is that of `rng`."""
    torch.cuda.manual_seed(seed)
    for ours in initial_parameters(seed, 784, 30, 10):
        theirs = torch.empty(ours.shape, device="cuda").normal_().cpu().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6)
