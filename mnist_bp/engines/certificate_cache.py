"""Certificates are kept next to the compiled kernels, so that an engine is certified once per machine and code.

A certificate needs torch's autograd, and importing torch takes longer than training. A kept one is used only if all
that could change it is unchanged: the machine code of the kernels, the sources of engines and equations, the versions
of the libraries, the processor and its features, the forms of the equations, and the sizes of network and batch. All of
this is in the file, whose checksum is compared when it is read. A file that does not match, or is damaged or
unreadable, is replaced by a new certificate.

Certificates of a GPU are not kept: its driver and its kernels, which Triton compiles, could change them too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from mnist_bp.engines.certificate_record import MAX_SIZE, Certificate, forms_of
from mnist_bp.engines.interface import Engine
from mnist_bp.errors import CertificateError, ChecksumError, DataFormatError, StoreError
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.reading import read_document

logger = logging.getLogger(__name__)

DIRECTORY: Final = "certificates"
SOURCES: Final = (Path(__file__).parent, Path(__file__).parents[1] / "model")
"""Directories of the sources that decide what is checked, and how."""

_LIBRARIES: Final = ("llvmlite", "numba", "numpy", "torch")
_VARIANTS: Final = {"cpu": ("float32", "pack"), "reference": ()}
"""For each engine, the variants of machine code that a training executes; see `mnist_bp.engines.numba_cache`."""


def certified(
    engine: Engine,
    hidden: int,
    batch_size: int,
    recipe: Recipe,
    shape: DatasetShape = MNIST_SHAPE,
    *,
    again: bool = False,
) -> Certificate:
    """Return the certificate that is kept for an engine, or check the engine and keep the certificate.

    Args:
        engine: The engine, ready to train.
        hidden: H of the network; see `mnist_bp.engines.certificate.certify`.
        batch_size: B.
        recipe: Equations.
        shape: Size of the images, and number of classes.
        again: Whether the engine is checked in any case.

    Raises:
        CertificateError: The engine fails the check.
    """
    basis = basis_of(engine, hidden, batch_size, recipe, shape)
    path = None if basis is None else path_of(basis)
    if path is not None and not again and (kept := read_certificate(path, basis)) is not None:
        return kept
    logger.info(f"train       certifying the {engine.name} engine against autograd, which takes some seconds")
    from mnist_bp.engines.certificate import certify  # imports torch

    certificate = certify(engine, hidden=hidden, batch_size=batch_size, recipe=recipe, of=shape)
    try:
        certificate.check()
    except CertificateError:
        if path is not None:
            with suppress(OSError):  # there may be none
                path.unlink()
        raise
    if path is not None:
        with suppress(StoreError):  # the next run certifies again
            write_bytes(path, checksummed_json.dumps({"basis": basis, "certificate": asdict(certificate)}))
    return certificate


def read_certificate(path: Path, basis: dict[str, Any] | None) -> Certificate | None:
    """Read a kept certificate; None if it is missing, damaged, of another basis, or does not pass."""
    try:
        document = checksummed_json.loads(read_document(path), str(path), "the next run certifies again")
        certificate = replace(Certificate(**document["certificate"]), reused=True)
        usable = document["basis"] == basis and not certificate.failures and bool(certificate.summary)
    except (StoreError, ChecksumError, DataFormatError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return certificate if usable else None


def basis_of(
    engine: Engine, hidden: int, batch_size: int, recipe: Recipe, shape: DatasetShape = MNIST_SHAPE
) -> dict[str, Any] | None:
    """Return all that could change an engine's certificate, as JSON; None if its certificates are not kept."""
    if engine.device != "cpu":
        return None
    try:
        from llvmlite import binding

        from mnist_bp.engines.numba_cache import code_digests
    except Exception:  # the reference engine also runs where numba and its libraries cannot be used
        return None
    code = code_digests(_VARIANTS[engine.name])
    if code is None:
        return None
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    if engine.name == "reference":
        import torch  # imported already by this engine

        processor.append(torch.backends.cpu.get_cpu_capability())  # which of its kernels; $ATEN_CPU_CAPABILITY decides
    return {
        "engine": engine.name,
        "hidden": min(hidden, MAX_SIZE),
        "batch_size": min(batch_size, MAX_SIZE),
        "images": [shape.height, shape.width],
        "classes": shape.classes,
        "recipe": forms_of(recipe),
        "machine_code": code,
        "sources": _sources_digest(),
        "versions": {"python": sys.version, **{name: version(name) for name in _LIBRARIES}},
        "processor": processor,
    }


def path_of(basis: dict[str, Any]) -> Path | None:
    """Return where a certificate is kept; None if no directory for machine code is writable."""
    from mnist_bp.engines.numba_cache import cache_directory

    directory = cache_directory()
    name = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]
    return None if directory is None else directory / DIRECTORY / f"{name}.json"


def _sources_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for directory in SOURCES for path in directory.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
