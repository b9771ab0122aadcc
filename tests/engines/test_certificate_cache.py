"""A certificate is kept as long as nothing has changed that it depends on, and what cannot be proved is made again."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from llvmlite import binding

from mnist_bp.engines import certificate, certificate_cache, numba_cache
from mnist_bp.engines.certificate_cache import certified
from mnist_bp.engines.certificate_record import Certificate
from mnist_bp.engines.cpu import CpuEngine, compiled_engine
from mnist_bp.engines.interface import Engine
from mnist_bp.engines.reference import ReferenceData, ReferenceEngine
from mnist_bp.errors import CertificateError
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.model.recipe import Recipe
from mnist_bp.storage import checksummed_json
from tests.engines.test_certificate import with_recipe

LAB = Recipe()
RIGHT = compiled_engine()


class Checks:
    """Counts the checks of engines, which are made as ever."""

    def __init__(self, directory: Path) -> None:
        self.count, self.directory = 0, directory

    def certify(self, engine: Engine, **settings: Any) -> Certificate:
        self.count += 1
        return checked(engine, **settings)

    @property
    def file(self) -> Path:
        (path,) = self.directory.glob("*/*")
        return path


checked = certificate.certify


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checks:
    """Certificates are kept in an empty directory."""
    counted = Checks(tmp_path / "kernels")
    monkeypatch.setattr(numba_cache, "cache_directory", lambda: counted.directory)
    monkeypatch.setattr(certificate, "certify", counted.certify)
    return counted


def test_a_second_run_uses_the_certificate_of_the_first_and_its_date(
    checks: Checks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mnist_bp")
    first, second = (certified(RIGHT, 30, 10, LAB) for _ in range(2))
    assert checks.count == 1
    assert caplog.messages == ["train       certifying the cpu engine against autograd, which takes some seconds"]
    assert second == replace(first, reused=True)
    assert "certified:" in first.summary
    assert f"certified on {first.at[:10]}:" in second.summary
    assert second.record["passed"]


def test_learning_rates_and_sizes_beyond_those_that_are_checked_change_no_certificate(checks: Checks) -> None:
    certified(RIGHT, 30, 1_024, LAB)
    certified(RIGHT, 30, 1_025, replace(LAB, learning_rate=0.1, schedule="linear", steps=7))
    assert checks.count == 1


def test_a_run_can_ask_for_a_new_certificate_which_replaces_the_kept_one(checks: Checks) -> None:
    certified(RIGHT, 30, 10, LAB)
    before = checks.file.read_bytes()
    again = certified(RIGHT, 30, 10, LAB, again=True)
    assert checks.count == 2
    assert not again.reused
    assert checks.file.read_bytes() != before
    assert certified(RIGHT, 30, 10, LAB).seconds == again.seconds


@pytest.mark.parametrize(
    ("hidden", "batch_size", "recipe"),
    [
        (31, 10, LAB),
        (30, 11, LAB),
        (30, 10, Recipe(bias_gradient="sum")),
        (30, 10, Recipe(loss="cross_entropy")),
        (30, 10, Recipe(activation="relu")),
        (30, 10, Recipe(initial="scaled")),
        (30, 10, Recipe(shift=1)),
    ],
    ids=str,
)
def test_another_network_or_recipe_needs_another_certificate(
    hidden: int, batch_size: int, recipe: Recipe, checks: Checks
) -> None:
    certified(RIGHT, 30, 10, LAB)
    assert not certified(RIGHT, hidden, batch_size, recipe).reused
    assert certified(RIGHT, 30, 10, LAB).reused
    assert certified(RIGHT, hidden, batch_size, recipe).reused
    assert checks.count == 2


def other_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(certificate_cache, "SOURCES", (certificate_cache.SOURCES[0], tmp_path / "model"))


CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Path], None]] = {
    "machine code": lambda patch, _: patch.setattr(numba_cache, "code_digests", lambda names: dict.fromkeys(names, "")),
    "sources": other_source,
    "versions": lambda patch, _: patch.setattr(certificate_cache, "version", lambda _: "1.0"),
    "python": lambda patch, _: patch.setattr(sys, "version", "3.0"),
    "processor": lambda patch, _: patch.setattr(binding, "get_host_cpu_name", lambda: "znver9"),
    "features": lambda patch, _: patch.setattr(binding, "get_host_cpu_features", lambda: binding.FeatureMap(avx9=True)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_anything_else_that_could_change_a_certificate_needs_another_one(
    what: str, checks: Checks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certified(RIGHT, 30, 10, LAB)
    with monkeypatch.context() as patch:
        CHANGES[what](patch, tmp_path)
        assert not certified(RIGHT, 30, 10, LAB).reused
        assert certified(RIGHT, 30, 10, LAB).reused
    assert certified(RIGHT, 30, 10, LAB).reused
    assert checks.count == 2


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change a document and compute its checksum again."""

    def write(path: Path) -> None:
        document = checksummed_json.loads(path.read_bytes(), "", "")
        change(document)
        path.write_bytes(checksummed_json.dumps(document))

    return write


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "another digit": lambda path: path.write_bytes(path.read_bytes().replace(b"e-0", b"e-1")),
    "no checksum": lambda path: path.write_text(json.dumps({"basis": {}, "certificate": {}})),
    "of another basis": edited(lambda document: document["basis"].update(hidden=31)),
    "no certificate": edited(lambda document: document.pop("certificate")),
    "a text": edited(lambda document: document.update(certificate="passed")),
    "another field": edited(lambda document: document["certificate"].update(passed=True)),
    "a field is missing": edited(lambda document: document["certificate"].pop("calls")),
    "a field of another type": edited(lambda document: document["certificate"].update(weights=1)),
    "no gradients": edited(lambda document: document["certificate"].update(gradients={})),
    "not passed": edited(lambda document: document["certificate"].update(loss=1.0)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_certificate_that_cannot_be_proved_is_made_again(damage: str, checks: Checks) -> None:
    certified(RIGHT, 30, 10, LAB)
    DAMAGES[damage](checks.file)
    assert not certified(RIGHT, 30, 10, LAB).reused
    assert certified(RIGHT, 30, 10, LAB).reused
    assert checks.count == 2


def test_any_flipped_bit_is_found(checks: Checks) -> None:
    basis = certificate_cache.basis_of(RIGHT, 30, 10, LAB)
    certified(RIGHT, 30, 10, LAB)
    content = checks.file.read_bytes()
    for bit in range(0, 8 * len(content), 61):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        checks.file.write_bytes(damaged)
        assert certificate_cache.read_certificate(checks.file, basis) is None
    checks.file.write_bytes(content)
    assert certificate_cache.read_certificate(checks.file, basis) is not None


@pytest.mark.parametrize("blocked", ["a directory", "a file in place of the directory"])
def test_where_no_certificate_can_be_kept_each_run_is_certified(blocked: str, checks: Checks) -> None:
    certified(RIGHT, 30, 10, LAB)
    path = checks.file
    as_directory(path)
    if blocked != "a directory":
        path.rmdir()
        path.parent.rmdir()
        path.parent.touch()
    assert not any(certified(RIGHT, 30, 10, LAB).reused for _ in range(2))


def test_without_a_cache_of_machine_code_each_run_is_certified(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cache, "cache_directory", lambda: None)
    assert not any(certified(RIGHT, 30, 10, LAB).reused for _ in range(2))
    monkeypatch.undo()
    monkeypatch.setattr(numba_cache, "code_digests", lambda _: None)  # compiled while another process held the lock
    assert not any(certified(RIGHT, 30, 10, LAB).reused for _ in range(2))


def test_an_engine_that_fails_is_refused_each_time_and_loses_its_certificate(checks: Checks) -> None:
    certified(RIGHT, 30, 10, LAB)
    wrong = replace(with_recipe(bias_gradient="sum"), name=CpuEngine.name)
    for _ in range(2):
        with pytest.raises(CertificateError):
            certified(wrong, 30, 10, LAB, again=True)
        assert list(checks.directory.glob("*/*")) == []
    with pytest.raises(CertificateError):
        certified(wrong, 30, 10, LAB)
    assert checks.count == 4


def test_the_certificate_of_the_reference_engine_is_kept_apart_from_that_of_the_cpu_engine(checks: Checks) -> None:
    certified(RIGHT, 30, 10, LAB)
    found = [certified(ReferenceEngine(), 30, 10, LAB) for _ in range(2)]
    assert [(each.engine, each.reused) for each in found] == [("reference", False), ("reference", True)]
    assert certified(RIGHT, 30, 10, LAB).engine == "cpu"
    assert checks.count == 2


def test_other_kernels_of_torch_need_another_certificate_of_the_reference_engine(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified(ReferenceEngine(), 30, 10, LAB)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO VECTORS")
    assert not certified(ReferenceEngine(), 30, 10, LAB).reused


def test_where_numba_cannot_be_imported_each_reference_run_is_certified(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mnist_bp.engines.numba_cache", None)
    assert not any(certified(ReferenceEngine(), 30, 10, LAB).reused for _ in range(2))
    assert not checks.directory.exists()


@dataclass(frozen=True)
class OnGpu(ReferenceEngine):
    """Computes on the CPU, and states that it is a GPU."""

    device: str = "cuda"

    def load(self, images: UInt8Array, labels: UInt8Array, classes: int = 10) -> ReferenceData:
        return ReferenceEngine().load(images, labels, classes)


def test_an_engine_on_a_gpu_is_certified_each_time(checks: Checks) -> None:
    assert not any(certified(OnGpu(), 30, 10, LAB).reused for _ in range(2))
    assert checks.count == 2
    assert not checks.directory.exists()
