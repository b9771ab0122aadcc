"""Batches of images are decoded from IDX and .npy files, and damaged ones are refused in one line."""

from __future__ import annotations

import gzip
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mnist_bp.data import batches
from mnist_bp.data.batches import decode_batch
from mnist_bp.data.sample import encode_idx
from mnist_bp.errors import DataFormatError

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 28, 28)).astype(np.uint8)


def npy(array: npt.NDArray[Any], **settings: Any) -> bytes:
    file = BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        encode_idx(IMAGES),
        npy(IMAGES),
        npy(np.asfortranarray(IMAGES)),
        gzip.compress(encode_idx(IMAGES), mtime=0),
        gzip.compress(npy(IMAGES), mtime=0),
    ],
    ids=["idx", "npy", "npy by columns", "idx.gz", "npy.gz"],
)
def test_a_batch_is_decoded_by_its_contents(content: bytes) -> None:
    found = decode_batch(content, "batch")
    assert found is not None
    assert np.array_equal(found, IMAGES)


def test_rows_of_pixels_stay_rows() -> None:
    found = decode_batch(npy(IMAGES.reshape(3, 784)), "batch")
    assert found is not None
    assert found.shape == (3, 784)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"], ids=["empty", "PNG", "JPEG"])
def test_other_files_are_no_batch(content: bytes) -> None:
    assert decode_batch(content, "file") is None


HEADER = npy(IMAGES)[:128]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (npy(IMAGES / 255), "batch has float64 values, expected uint8 images"),
        (npy(np.array([{}]), allow_pickle=True), "batch has object values, expected uint8 images"),
        (npy(IMAGES)[:-1], "batch is damaged: it has 2,351 values, expected 2,352 for the shape (3, 28, 28)"),
        (npy(IMAGES)[:40], "batch is a damaged .npy file: "),
        (b"\x93NUMPY", "batch is a damaged .npy file: "),
        (HEADER.replace(b"(3, 28, 28)", b"(-3,-28,28)"), "batch has the shape (-3, -28, 28), expected uint8 images"),
        (HEADER.replace(b"(3, 28, 28)", b"([(((((((("), "batch is a damaged .npy file: "),
        (npy(IMAGES[:0]), "batch has the shape (0, 28, 28), expected uint8 images"),
        (npy(IMAGES[0, 0]), "batch has the shape (28,), expected uint8 images"),
        (encode_idx(IMAGES[:, 0, 0]), "batch has the shape (3,), expected uint8 images"),  # a file of labels
        (encode_idx(IMAGES)[:-1], "batch is damaged: it has 2,351 values, expected 2,352 for the shape (3, 28, 28)"),
        (encode_idx(IMAGES)[:10], "batch is not an IDX file of bytes"),
        (b"\0\0\x0d\x03" + bytes(12), "batch is not an IDX file of bytes"),  # of floats
        (b"\0\0\x08\x03" + b"\xff" * 12, "batch is damaged: it has 0 values, expected 79,228,162,458,924,105,385,"),
        (b"\0\0", "batch is not an IDX file of bytes"),
        (gzip.compress(b"text", mtime=0), "batch is gzipped and contains neither an IDX nor a .npy file"),
        (gzip.compress(npy(IMAGES), mtime=0)[:-9], "batch is cut off"),
        (b"\x1f\x8b" + bytes(20), "batch is a damaged gzip file: "),
    ],
)  # fmt: skip
def test_a_damaged_batch_is_refused_in_one_line(content: bytes, expected: str) -> None:
    with pytest.raises(DataFormatError) as refused:
        decode_batch(content, "batch")
    assert str(refused.value).startswith(expected)


def test_a_gzipped_file_is_not_unzipped_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_SIZE", 1_000)
    with pytest.raises(DataFormatError, match="has more than 1,000 bytes unzipped"):
        decode_batch(gzip.compress(npy(IMAGES), mtime=0), "batch")
