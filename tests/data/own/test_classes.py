"""Which numbers are classes."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_bp.data.own.classes import number_classes
from mnist_bp.errors import DataFormatError


def test_a_column_of_row_numbers_is_refused_as_labels_at_once() -> None:
    rows = np.delete(np.arange(1_000_000), 990_000)
    with pytest.raises(DataFormatError, match=r"labels up to 999,999, and none of 990000: expected images of every"):
        number_classes(rows, "images.parquet")
