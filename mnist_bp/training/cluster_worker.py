"""What a process of a cluster does with a part. This module knows nothing of the cluster.

A process checks that its code and its arithmetic are those of the machine that started the run, once for each shape of
models, and loads the dataset once, from memory that the processes of a machine share. Errors are returned, not raised,
with their traceback and all that was logged, since the machine that started the run sees neither.
"""

from __future__ import annotations

import hashlib
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import same_engine
from mnist_bp.engines.fingerprint import fingerprint
from mnist_bp.errors import MnistBpError, StoreError
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import DatasetShape
from mnist_bp.training.part_training import PartData, Put, put_into_store, train_part
from mnist_bp.training.parts import Part, PartContext, PartResult

PACKAGE = "mnist_bp"


class Machine(NamedTuple):
    """What decides the bits that a machine computes.

    Args:
        code: Digest of the source files of this package.
        fingerprint: Of the run's engine, for the models of a part; see `mnist_bp.engines.fingerprint`.
    """

    code: str
    fingerprint: str


class Arrays(NamedTuple):
    """A dataset: images, pixels in [0, 255], shape (N, D), and classes in [0, K), shape (N,), of both splits."""

    images: UInt8Array
    labels: UInt8Array
    test_images: UInt8Array
    test_labels: UInt8Array


@dataclass(frozen=True)
class Ready:
    """A machine may train a part, and has not been asked to.

    Args:
        node: Its name.
    """

    node: str


@dataclass(frozen=True)
class Failure:
    """Why a part was not trained.

    Args:
        kind: `machine` (this machine must not train any part of the run) or `error` (the part itself failed).
        message: One line.
        log: What was logged, and the traceback.
        node: Where it happened.
        cause: The error, if it is one of this package's.
    """

    kind: Literal["machine", "error"]
    message: str
    log: str
    node: str
    cause: MnistBpError | None = field(default=None, compare=False)


def read_arrays(context: PartContext) -> Arrays:
    """Read the dataset from the Parquet cache.

    Raises:
        ChecksumError, DataFormatError, StoreError: A file of the cache is damaged or missing.
    """
    return Arrays(*load_split(context.train), *load_split(context.test))


def this_machine(part: Part, context: PartContext) -> Machine:
    """Return what decides the bits that this machine computes for a part.

    Raises:
        ConfigError: The engine of the run cannot run here.
    """
    recipe = replace(part.recipe(part.members[0]), learning_rate=1.0, schedule="constant", steps=1, shift=0)
    sizes = part.config["hidden"], part.config["batch_size"]
    return Machine(_code_digest(), _fingerprint(context.engine, context.device, context.shape, *sizes, recipe))


def train_here(
    part: Part,
    context: PartContext,
    read: Callable[[], Arrays],
    expected: Machine,
    threads: int,
    node: str,
    *,
    only_check: bool = False,
) -> PartResult | Failure | Ready:
    """Train a part in this process, if it computes the bits of the machine that started the run.

    Args:
        part: The part.
        context: Of the run.
        read: Returns the dataset, whose arrays may be read-only; called once for all parts of a run.
        expected: The machine that started the run.
        threads: Number of cores to use, at least 1.
        node: Name of this node.
        only_check: Whether to return `Ready` instead of training the part.
    """
    with _captured_log() as log:
        try:
            if problem := _problem(part, context, expected):
                return Failure("machine", problem, log.getvalue(), node)
            if only_check:
                return Ready(node)
            data, put = _loaded(context, read)
            return replace(train_part(part, data, threads, put), node=node)
        except Exception as exc:
            whole, cause = log.getvalue() + traceback.format_exc(), exc if isinstance(exc, MnistBpError) else None
            return Failure("error", f"{type(exc).__name__}: {exc}" if cause is None else str(exc), whole, node, cause)


def _problem(part: Part, context: PartContext, expected: Machine) -> str | None:
    """Return why this machine must not train any part of a run; None if it may."""
    try:
        found = this_machine(part, context)
        _check_sees(context.artifacts)
    except MnistBpError as exc:
        return str(exc)
    if found.code != expected.code:
        return (
            f"it has other code (digest {found.code[:12]}, here {expected.code[:12]}); expected the same mnist-bp on "
            "every node"
        )
    if found.fingerprint != expected.fingerprint:
        return (
            f"it computes other bits (fingerprint {found.fingerprint[:12]}, here {expected.fingerprint[:12]}); "
            "expected processors of one kind and the same versions of numba and NumPy"
        )
    return None


def _check_sees(artifacts: str) -> None:
    """Check that this machine has the store's directory, if it is one.

    Raises:
        StoreError: It does not.
    """
    path = artifacts.removeprefix("file://")
    if "://" not in path and not Path(path).is_dir():
        raise StoreError(f"it does not see {path}; expected a directory that all nodes share, or s3://bucket/prefix")


_data: list[tuple[tuple[str, str, str], PartData, Put]] = []
"""The dataset of the latest run of this process."""


def _loaded(context: PartContext, read: Callable[[], Arrays]) -> tuple[PartData, Put]:
    key = context.run_id, context.train.sha256, context.artifacts
    if not _data or _data[0][0] != key:
        engine = same_engine(context.engine, context.device, shape=context.shape)
        _data[:] = [(key, PartData(engine, *read(), context), put_into_store(context))]
    return _data[0][1:]


@lru_cache
def _fingerprint(engine: str, device: str, shape: DatasetShape, hidden: int, batch_size: int, recipe: Recipe) -> str:
    return fingerprint(same_engine(engine, device, hidden, batch_size, shape), shape, hidden, batch_size, recipe)


@lru_cache
def _code_digest() -> str:
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def _captured_log() -> Iterator[io.StringIO]:
    """Keep what this package logs."""
    text = io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger(PACKAGE)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield text
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
