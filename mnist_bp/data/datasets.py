"""The datasets: their files, digests and mirrors.

To add a dataset, add its name to `DatasetName` and its files to `DATASETS`.

Source: `torchvision.datasets.{MNIST,FashionMNIST,KMNIST}.{resources,mirrors}`. A test compares the values below with
those classes; importing torchvision here would take 2 to 4 s at every start. The SHA-256 digests of MNIST were computed
from files that have torchvision's MD5 digests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

DatasetName = Literal["mnist", "fashion-mnist", "kmnist", "mnist-sample"]
"""The keys of `DATASETS`, as `--dataset` and `RunConfig` take them."""


MAX_SOURCE_SIZE: Final = 64 << 20
"""Bytes of the largest source file that is read or downloaded; the largest known one has 30 million."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a dataset and its digest: SHA-256 if it is known, else MD5.

    Args:
        name: File name on every mirror.
        algorithm: `sha256` or `md5`, as in hashlib.
        digest: Lower-case hexadecimal digits.
    """

    name: str
    algorithm: str
    digest: str


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset.

    Args:
        name: Name in `--dataset`.
        files: Training images, training labels, test images, test labels.
        mirrors: Addresses to which a file's name is appended; empty for the bundled sample.
        train_examples: Rows of the training split.
    """

    name: str
    files: tuple[SourceFile, SourceFile, SourceFile, SourceFile]
    mirrors: tuple[str, ...]
    train_examples: int


def _files(algorithm: str, suffix: str, *digests: str) -> tuple[SourceFile, SourceFile, SourceFile, SourceFile]:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    a, b, c, d = (SourceFile(name + suffix, algorithm, digest) for name, digest in zip(names, digests, strict=True))
    return a, b, c, d


DATASETS: Final[dict[str, DatasetSpec]] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            "mnist",
            _files(
                "sha256",
                ".gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            60_000,
        ),
        DatasetSpec(
            "fashion-mnist",
            _files(
                "md5",
                ".gz",
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            60_000,
        ),
        DatasetSpec(
            "kmnist",
            _files(
                "md5",
                ".gz",
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            60_000,
        ),
        DatasetSpec(
            "mnist-sample",
            _files(
                "sha256",
                "",
                "74422b12132c7d8b0957cdb994d971a505f77a57ddac808ef1ea84f4bb9e7a2e",
                "5dbd7686910cb66a8a6303f16940c2fae43896243c187897cd3976aab00f4817",
                "39a5f23fe7320d50d2b650bd96c756db7999a84cb13541d939296ed59f1e0663",
                "66e4c6deb5f2a061f7d8cd5ec53025fdb9dabb08265e449acb8cf64b8cd36cac",
            ),
            (),
            4_000,
        ),
    )
}
