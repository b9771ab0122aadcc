"""What the benchmarks' tests share: a little data laid out as the workers read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.peers import Task
from mnist_bp.data.sample import encode_idx
from mnist_bp.model.recipe import Recipe


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """120 made-up images with margins of two pixels and a fifth of their pixels not zero, as in MNIST."""
    made = np.random.default_rng(1)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        inner = made.integers(1, 256, (120, 24, 24), np.uint8) * (made.random((120, 24, 24)) < 0.2)
        images = np.pad(inner, ((0, 0), (2, 2), (2, 2)))
        (raw / f"{split}-images-idx3-ubyte").write_bytes(encode_idx(images.astype(np.uint8)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(encode_idx(made.integers(0, 10, 120, np.uint8)))
    return Task(tmp_path, Recipe())


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    """Give torch its threads back: a way that is measured takes all but one from its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
