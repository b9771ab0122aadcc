"""Checkpoint files: safetensors, so that loading one cannot run code, verified against a digest before they are parsed.

The tensors are W1, b1, W2 and b2. Where several models are trained in parallel, each has one more axis, the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import FloatArray, Model, Parameters
from mnist_bp.results.common import FileDigest
from mnist_bp.storage.files import write_bytes
from mnist_bp.storage.reading import read_verified

METADATA_KEY = "mnist_bp"


def save_checkpoint(path: Path, models: Sequence[Model], metadata: dict[str, Any]) -> FileDigest:
    """Write models of one shape to a file, atomically. Equal models and metadata give equal bytes.

    Args:
        path: The file's final name.
        models: At least one model.
        metadata: JSON values. They go under a single key of the file's metadata, whose keys have no fixed order.

    Raises:
        StoreError: The disk is full, read-only or missing.
    """
    stacked = models[0] if len(models) == 1 else Parameters(*map(np.stack, zip(*models, strict=True)))
    content = safetensors.numpy.save(stacked._asdict(), {METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    return FileDigest(str(path), write_bytes(path, content), len(content))


def load_checkpoint(file: FileDigest) -> list[Model]:
    """Verify the digest of a file, then read its models.

    Raises:
        ChecksumError: The bytes differ from the digest; nothing was parsed.
        DataFormatError: The bytes are intact, but not a checkpoint of this network.
        StoreError: The file is missing or unreadable.
    """
    return decode_checkpoint(read_verified(Path(file.path), file.sha256, size=file.size), file.path)


def decode_checkpoint(content: bytes, what: str) -> list[Model]:
    """Decode models from bytes whose digest has been verified.

    Args:
        content: Contents of a safetensors file.
        what: Name of the file, for the message.

    Raises:
        DataFormatError: The content is not a checkpoint of this network.
    """
    hint = "train the run again"
    try:
        tensors = safetensors.numpy.load(content)
    except Exception as exc:  # safetensors raises errors of many types, some of them undocumented
        raise DataFormatError(f"{what} is not a safetensors file: {exc}; {hint}") from exc
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    inputs, hidden, classes = _last_axis(tensors, "W1", 2), _last_axis(tensors, "b1"), _last_axis(tensors, "b2")
    shapes = {"W1": (inputs, hidden), "b1": (hidden,), "W2": (hidden, classes), "b2": (classes,)}
    many = tensors["b1"].shape[:1] if hidden and tensors["b1"].ndim == 2 else ()
    if (
        not inputs
        or not hidden
        or classes < 2
        or found != {name: ("float32", (*many, *shape)) for name, shape in shapes.items()}
        or 0 in many
    ):
        raise DataFormatError(f"{what} is not a checkpoint of this network: it has {found or 'no tensors'}; {hint}")
    stacked: Model = Parameters(**tensors)
    if not many:
        return [stacked]
    return [Parameters(*model) for model in zip(*stacked, strict=True)]


def _last_axis(tensors: Mapping[str, FloatArray], name: str, axis: int = 1) -> int:
    """Return the length of an axis of a tensor, counted from the last; 0 if it has no such axis."""
    shape = tensors[name].shape if name in tensors else ()
    return shape[-axis] if len(shape) >= axis else 0
