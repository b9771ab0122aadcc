"""The datasets compared with torchvision's, and the bundled sample compared with MNIST."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from mnist_bp.data.choice import DatasetChoice
from mnist_bp.data.datasets import DATASETS, DatasetName
from mnist_bp.data.parquet import load_split
from mnist_bp.data.preprocess import decode_idx
from mnist_bp.results.common import FileDigest
from mnist_bp.results.dataset import CachedDataset, RawDataset


def test_the_names_that_a_configuration_takes_are_those_of_the_datasets() -> None:
    assert get_args(DatasetName) == tuple(DATASETS)
    assert get_args(DatasetChoice) == ("auto", *DATASETS)


@pytest.mark.parametrize(
    ("name", "class_name"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_files_and_mirrors_are_torchvisions(name: str, class_name: str) -> None:
    from torchvision import datasets

    theirs, ours = getattr(datasets, class_name), DATASETS[name]
    assert list(ours.mirrors) == theirs.mirrors
    assert [file.name for file in ours.files] == [file_name for file_name, _ in theirs.resources]


@pytest.mark.parametrize(("name", "class_name"), [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_md5_digests_are_torchvisions(name: str, class_name: str) -> None:
    from torchvision import datasets

    ours = [(file.algorithm, file.digest) for file in DATASETS[name].files]
    assert ours == [("md5", digest) for _, digest in getattr(datasets, class_name).resources]


def test_files_with_mnists_sha256_have_torchvisions_md5(mnist_raw: RawDataset) -> None:
    from torchvision.datasets import MNIST

    assert [file.sha256 for file in mnist_raw.files] == [file.digest for file in DATASETS["mnist"].files]
    found = {Path(file.path).name: hashlib.md5(Path(file.path).read_bytes()).hexdigest() for file in mnist_raw.files}
    assert found == dict(MNIST.resources)


@pytest.mark.parametrize("name", DATASETS)
def test_file_order_is_training_then_test_images_before_labels(name: str) -> None:
    starts = ["train-images", "train-labels", "t10k-images", "t10k-labels"]
    assert [file.name[: len(start)] for file, start in zip(DATASETS[name].files, starts, strict=True)] == starts


def test_sample_has_every_digit_400_times_for_training_and_100_times_for_testing(sample_raw: RawDataset) -> None:
    train_images, train_labels, test_images, test_labels = sample_raw.files
    for images, labels, per_digit in ((train_images, train_labels, 400), (test_images, test_labels, 100)):
        digits = decode_idx(Path(labels.path))
        assert torch.bincount(digits).tolist() == [per_digit] * 10
        assert decode_idx(Path(images.path)).shape == (10 * per_digit, 28, 28)
        assert (
            digits.reshape(per_digit, 10).tolist() == [list(range(10))] * per_digit
        )  # any contiguous part is balanced
    assert DATASETS["mnist-sample"].train_examples == 4_000


def test_sample_is_the_same_on_every_machine_to_the_byte(sample_raw: RawDataset) -> None:
    digests = [hashlib.sha256(Path(file.path).read_bytes()).hexdigest() for file in sample_raw.files]
    assert digests == [file.digest for file in DATASETS["mnist-sample"].files]
    assert digests == [file.sha256 for file in sample_raw.files]


def test_sample_is_the_first_500_training_images_of_each_digit_of_mnist(
    mnist: CachedDataset, sample: CachedDataset
) -> None:
    position = {row: nth for nth, row in enumerate(rows(mnist.train))}
    assert len(position) == 60_000  # no image occurs twice, so a row's position is known
    train, test = [[position[row] for row in rows(split)] for split in (sample.train, sample.test)]
    _, digits = load_split(mnist.train)
    of_digit = [np.flatnonzero(digits == digit).tolist() for digit in range(10)]
    assert sorted(train) == sorted(nth for positions in of_digit for nth in positions[:400])
    assert sorted(test) == sorted(nth for positions in of_digit for nth in positions[400:500])


def test_sample_splits_share_no_image(mnist: CachedDataset, sample: CachedDataset) -> None:
    train, test = set(rows(sample.train)), set(rows(sample.test))
    assert (len(train), len(test), len(train & test)) == (4_000, 1_000, 0)


def rows(split: FileDigest) -> list[bytes]:
    """List each image of a split with its label, as 785 bytes."""
    images, labels = load_split(split)
    together = np.concatenate([images, labels[:, None]], axis=1)
    return [row.tobytes() for row in together]
