"""Runs on images that are not MNIST's: digits of 12 x 8 pixels, in folders named by words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from mnist_bp.data.download import fetch
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.model.parameters import UInt8Array
from mnist_bp.results.dataset import DatasetShape
from tests.support.own_images import digits_8x8, write_folders
from tests.support.published_runs import EvaluatedRun, train_and_evaluate

WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPE: Final = DatasetShape(8, 12, tuple(sorted(WORDS)))
COUNT: Final = 600


def word_digits() -> tuple[UInt8Array, list[str]]:
    """Return images of 12 x 8 pixels, shape (600, 8, 12), and the name of the class of each."""
    images, labels = digits_8x8()
    return np.pad(images[:COUNT], ((0, 0), (0, 0), (2, 2))), [WORDS[label] for label in labels[:COUNT]]


def train_on_words(place: Path, classes: int = 10, **settings: Any) -> EvaluatedRun:
    """Train and evaluate a run on them; see `train_and_evaluate`.

    Args:
        place: Empty directory for the images, the data directory and the run.
        classes: 10, or a multiple of it: then each digit is divided into as many classes as needed.
        settings: Of the run.
    """
    images, names = word_digits()
    parts = classes // 10
    if parts > 1:
        names = [f"{name} {number % parts}" for number, name in enumerate(names)]
    address = f"images:{write_folders(place / 'words', images, names)}"
    raw = fetch(address, place / "data", {}, last_attempt=True)
    data = preprocess_dataset(raw, place / "data")
    return train_and_evaluate(
        raw, data, place / "data", dataset=address, artifacts=str(place / "artifacts"), **settings
    )
