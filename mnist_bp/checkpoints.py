"""Checkpoints on disk: safetensors, so that loading one can never run code, and a digest before anything is parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch

from mnist_bp.errors import DataFormatError
from mnist_bp.files import read_verified, write_bytes
from mnist_bp.network import Parameters
from mnist_bp.records import StoredFile

METADATA_KEY = "mnist_bp"


def save_checkpoint(path: Path, parameters: Parameters, metadata: dict[str, Any]) -> StoredFile:
    """Write parameters atomically. Equal parameters and metadata give equal bytes.

    Args:
        path: Final name.
        parameters: On any device.
        metadata: What JSON can hold. It goes under one key of the file's own metadata, whose keys have no fixed order.

    Raises:
        StoreError: The disk is full, read-only or gone.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in parameters._asdict().items()}
    content = safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    return StoredFile(str(path), write_bytes(path, content), len(content))


def load_checkpoint(file: StoredFile) -> Parameters:
    """Read parameters after proving that the bytes are the ones that were written.

    Returns:
        Parameters on the CPU.

    Raises:
        ChecksumError: The bytes differ from the digest; nothing was parsed.
        DataFormatError: The bytes are intact and not a checkpoint of this network.
        StoreError: The file is absent or unreadable.
    """
    content = read_verified(Path(file.path), file.sha256)
    try:
        return Parameters(**safetensors.torch.load(content))
    except (safetensors.SafetensorError, TypeError) as exc:
        raise DataFormatError(f"{file.path} is not a checkpoint of this network: {exc}; train the run again") from exc
