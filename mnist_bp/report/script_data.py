"""What the script of a report works with: the weights of the model at its checkpoints as text, and some test images.

The weights after the last step are exact: float32, little-endian, base64. The first layer at an earlier step is its
difference from the last, one base64 digit for each weight: a fifth of the size. Digit d, from 0 to 62, stands for
(d - 31) / 31 times the largest difference of the hidden unit, so that a weight which never changed is exact. The other
parameters, which are few, are exact at every step. With the preset relu-128, the class that the rounded network reads
differs for at most 7 of MNIST's 10,000 test images, except at step 0, where it is a guess.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mnist_bp.data.datasets import DATASETS as KNOWN
from mnist_bp.data.digits import BOX, DATASETS, FAINTEST
from mnist_bp.model.parameters import WIDTH, FloatArray, Model, UInt8Array
from mnist_bp.report.classes import MAX_MATRIX, Confusion, class_bars, confusion_cells
from mnist_bp.report.style import NEGATIVE, POSITIVE
from mnist_bp.results.dataset import DatasetShape
from mnist_bp.results.evaluation import CheckpointScore

MAX_MODEL_SIZE: Final = 8_000_000
"""Characters of the last model; a larger one is left out, and nothing can be drawn."""

MAX_WEIGHTS_SIZE: Final = 1_700_000
"""Characters of the weights of all steps, unless those of the last alone take more: a page stays below 2 MB."""

MAX_SNAPSHOTS: Final = 40

PAD: Final = 280
"""Longer side of the drawing area, in pixels."""

LEVELS: Final = 31
"""Levels of each sign in a difference of weights."""

_DIGITS: Final = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
"""The digits of base64, of which each holds 6 bits; Source: RFC 4648, table 1."""


@dataclass(frozen=True)
class Snapshot:
    """The run's own model after a number of steps, with what the test images show of it.

    Args:
        model: Its weights.
        score: Its scores.
        confusion: Counts; rows are true classes, columns are predicted classes.
    """

    model: Model
    score: CheckpointScore
    confusion: Confusion


def max_snapshots(inputs: int, hidden: int, classes: int) -> int:
    """Return how many models a page holds: 0 if the last one is too large, else at least 1.

    Args:
        inputs: D.
        hidden: H.
        classes: K.
    """
    rest = hidden + hidden * classes + classes  # b1, W2, b2
    last, earlier = _base64_size(inputs * hidden + rest), inputs * hidden + _base64_size(hidden) + _base64_size(rest)
    if last > MAX_MODEL_SIZE:
        return 0
    return min(MAX_SNAPSHOTS, 1 + max(0, MAX_WEIGHTS_SIZE - last) // earlier)


def script_data(
    snapshots: Sequence[Snapshot],
    activation: str,
    images: Sequence[tuple[int, UInt8Array]],
    shown: int,
    dataset: str,
    shape: DatasetShape,
    places: Sequence[float],
    full_scale: tuple[float, float],
) -> dict[str, Any]:
    """Return the data of `report.js`, ready for JSON.

    Args:
        snapshots: At least one, in order of step; the last is the run's own model.
        activation: Activation of the hidden units.
        images: Test images to choose from: the class and the pixels in [0, 255], shape (D,), of each.
        shown: Class of the one that is read first.
        dataset: Name of the dataset, which decides how a drawing becomes an image: as MNIST's digits were prepared, or
            scaled alone, if the images are the user's own. Of others it is not known, so that nothing can be drawn.
        shape: Of the images, with the names of the classes.
        places: Place of each snapshot on the x axis of the charts, in pixels.
        full_scale: Magnitudes of the change of a weight, and of a weight, that get the full colour.
    """
    last = snapshots[-1].model
    hidden = last.W1.shape[1]
    return {
        "width": shape.width,
        "height": shape.height,
        "names": shape.class_names,
        "pad": [round(PAD * side / max(shape.width, shape.height)) or 1 for side in (shape.width, shape.height)],
        "side": WIDTH,
        "box": BOX,
        "faintest": FAINTEST,
        "hidden": hidden,
        "classes": last.W2.shape[1],
        "activation": activation,
        "colours": {"positive": POSITIVE, "negative": NEGATIVE},
        "fullScale": {"change": full_scale[0], "weights": full_scale[1]},
        "W1": _float32_text(last.W1),
        "snapshots": [
            {
                "step": snapshot.score.step,
                "accuracy": f"{snapshot.score.accuracy:.4f}",
                "x": place,
                "cells": confusion_cells(snapshot.confusion) if shape.classes <= MAX_MATRIX else [],
                **_bars(snapshot.confusion),
                **(_difference(snapshot.model, last) if snapshot.model is not last else {}),
                "rest": _float32_text(snapshot.model.b1, snapshot.model.W2, snapshot.model.b2),
            }
            for snapshot, place in zip(snapshots, places, strict=True)
        ],
        "images": [{"label": label, "pixels": pixels_text(pixels)} for label, pixels in images],
        "shown": shown,
        "drawn": dataset in DATASETS or dataset not in KNOWN,
        "prepared": dataset in DATASETS,
    }


def pixels_text(pixels: UInt8Array) -> str:
    """Return pixels as base64."""
    return base64.b64encode(pixels.tobytes()).decode()


def _bars(confusion: Confusion) -> dict[str, Any]:
    bars, scale = class_bars(confusion)
    return {"bars": [(f"{bar.accuracy:.4f}", bar.width) for bar in bars], "barScale": scale}


def _difference(model: Model, last: Model) -> dict[str, str]:
    difference = model.W1 - last.W1  # (D, H)
    largest = np.abs(difference).max(axis=0)  # (H,)
    levels = np.rint(LEVELS * difference / np.where(largest > 0, largest, 1)).astype(np.int64)
    return {"levels": _DIGITS[levels + LEVELS].tobytes().decode(), "largest": _float32_text(largest)}


def _float32_text(*arrays: FloatArray) -> str:
    return base64.b64encode(b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays)).decode()


def _base64_size(floats: int) -> int:
    return 4 * math.ceil(4 * floats / 3)
