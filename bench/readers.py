"""Every way that is at hand to get a split from disk into memory, and the files that they read."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mnist_bp.data.parquet import decode_split, load_split
from mnist_bp.data.sample import encode_idx
from mnist_bp.model.parameters import PIXELS
from mnist_bp.results import FileDigest
from mnist_bp.storage.files import digest_of, read_verified

IDX: Final = ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte")
"""Images and labels, where torchvision looks for them."""
HEADERS: Final = (16, 8)
"""UInt8Array before the values of an IDX file of images, and of one of labels."""

Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Sources:
    """One split in every form that it is read from.

    Args:
        parquet: As our cache has it.
        directory: Holds the other forms.
        sha256: Digests of the two IDX files.
    """

    parquet: FileDigest
    directory: Path
    sha256: tuple[str, str]

    @property
    def idx(self) -> tuple[Path, Path]:
        """The unzipped files of images and labels."""
        return self.directory / IDX[0], self.directory / IDX[1]

    @property
    def zipped(self) -> tuple[Path, Path]:
        """The same, gzipped."""
        return self.directory / "images.gz", self.directory / "labels.gz"

    @property
    def npy(self) -> tuple[Path, Path]:
        """The same as NumPy saves them."""
        return self.directory / "images.npy", self.directory / "labels.npy"


def prepare(parquet: FileDigest, directory: Path) -> Sources:
    """Write a split in every form that it is read from.

    Args:
        parquet: The split in our cache.
        directory: Where the others go.
    """
    images, labels = load_split(parquet)
    sources = Sources(parquet, directory, ("", ""))
    sources.idx[0].parent.mkdir(parents=True)
    for array, idx, zipped, npy in zip(
        (images.reshape(-1, 28, 28), labels), sources.idx, sources.zipped, sources.npy, strict=True
    ):
        idx.write_bytes(encode_idx(array))
        zipped.write_bytes(gzip.compress(idx.read_bytes(), mtime=0))
        np.save(npy, array.reshape(-1, PIXELS) if array.ndim > 1 else array)
        (idx.parent / idx.name.replace("train", "t10k")).touch()  # torchvision wants it to exist, and does not read it
    return Sources(parquet, directory, (digest_of(sources.idx[0]), digest_of(sources.idx[1])))


# ---------------------------------------------------------------------------------------------------------------------
# the ways, each from files to images, shape (N, 784), and labels, shape (N,)


def _parquet(sources: Sources) -> Split:
    return load_split(sources.parquet)


def _parquet_unproved(sources: Sources) -> Split:
    return decode_split(Path(sources.parquet.path).read_bytes())


def _torchvision(sources: Sources) -> Split:
    from torchvision.datasets import MNIST

    data = MNIST(str(sources.directory), train=True)
    return data.data.numpy().reshape(-1, PIXELS), data.targets.numpy()


def _unzip(sources: Sources) -> Split:
    images, labels = (
        np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)
        for path, offset in zip(sources.zipped, HEADERS, strict=True)
    )
    return images.reshape(-1, PIXELS), labels


def _fromfile(sources: Sources) -> Split:
    images, labels = (
        np.fromfile(path, np.uint8, offset=offset) for path, offset in zip(sources.idx, HEADERS, strict=True)
    )
    return images.reshape(-1, PIXELS), labels


def _fromfile_proved(sources: Sources) -> Split:
    images, labels = (
        np.frombuffer(read_verified(path, digest), np.uint8, offset=offset)
        for path, digest, offset in zip(sources.idx, sources.sha256, HEADERS, strict=True)
    )
    return images.reshape(-1, PIXELS), labels


def _npy(sources: Sources) -> Split:
    images, labels = (np.load(path) for path in sources.npy)
    return images, labels


def _files(sources: Sources) -> tuple[Path, ...]:
    return (Path(sources.parquet.path),)


@dataclass(frozen=True)
class Way:
    """One way to read a split.

    Args:
        title: For the table.
        read: From files to images and labels.
        files: What is read.
    """

    title: str
    read: Callable[[Sources], Split]
    files: Callable[[Sources], tuple[Path, ...]]


WAYS: Final[Mapping[str, Way]] = {
    "parquet": Way("mnist-bp: Parquet, SHA-256 proved", _parquet, _files),
    "parquet-unproved": Way("mnist-bp: Parquet, not proved", _parquet_unproved, _files),
    "torchvision": Way("torchvision.datasets.MNIST, IDX unzipped", _torchvision, lambda sources: sources.idx),
    "gzip": Way("gzip and numpy.frombuffer, IDX as downloaded", _unzip, lambda sources: sources.zipped),
    "raw": Way("numpy.fromfile, IDX unzipped", _fromfile, lambda sources: sources.idx),
    "raw-proved": Way("the same, SHA-256 proved", _fromfile_proved, lambda sources: sources.idx),
    "npy": Way("numpy.load, .npy", _npy, lambda sources: sources.npy),
}
OURS: Final = "parquet"
