"""Two published runs, side by side: what differs in how they were made, and in what they classify correctly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from mnist_bp.config import PLACES
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ConfigError
from mnist_bp.model.recipe import recipe_of
from mnist_bp.registry.comparison import Predictor, PublishedModel, shape_difference
from mnist_bp.registry.gate import Classes, mcnemar_p
from mnist_bp.report.comparison import CheckpointPair, ClassPair, Comparison, DisputedImage, McNemar, Setting, Side

Mask = npt.NDArray[np.bool_]
"""Which test images, shape (N,)."""

_DIGEST: Final = 12
"""Digits of a digest that are shown."""


def check_comparable(a: PublishedModel, b: PublishedModel) -> None:
    """Refuse two runs whose comparison says nothing.

    Raises:
        ConfigError: They are one run, or of two datasets, or of one name with images of two sizes or other classes.
    """
    if a.run_id == b.run_id:
        raise ConfigError(f"both names are of run {a.run_id}: expected two runs")
    if a.dataset != b.dataset:
        raise ConfigError(
            f"{a.run_id} is a run of {a.dataset} and {b.run_id} one of {b.dataset}: their test images differ, so that "
            "neither accuracies nor mistakes can be compared; expected two runs of one dataset, see mnist-bp runs"
        )
    if difference := shape_difference(a.manifest.dataset.shape, b.manifest.dataset.shape):
        raise ConfigError(
            f"{a.run_id} and {b.run_id} were trained on two datasets named {a.dataset}, {difference}: expected two "
            "runs on images of one size with the same classes"
        )


def compare_runs(a: PublishedModel, b: PublishedModel, predictor: Predictor) -> Comparison:
    """Compare two runs.

    Args:
        a: The first.
        b: The second.
        predictor: The test images of their dataset.

    Raises:
        ConfigError: See `check_comparable`.
        ChecksumError, DataFormatError, StoreError: The model of a run is damaged or cannot be read.
    """
    check_comparable(a, b)
    by_a, by_b, labels = predictor.predict(a), predictor.predict(b), predictor.labels
    right_a, right_b = by_a == labels, by_b == labels
    test = _mcnemar(right_a, right_b)
    return Comparison(
        dataset=a.dataset,
        a=_side(a.manifest, int(right_a.sum()) / test.test_images),
        b=_side(b.manifest, int(right_b.sum()) / test.test_images),
        settings=tuple(_differences(a.manifest, b.manifest)),
        checkpoints=tuple(_checkpoints(a.manifest, b.manifest)),
        mcnemar=test,
        classes=tuple(_classes(labels, right_a, right_b)),
        a_alone=_disputed(right_a & ~right_b, labels, by_a, by_b),
        b_alone=_disputed(right_b & ~right_a, labels, by_a, by_b),
        same_loss=len({recipe_of(run.manifest.config).loss for run in (a, b)}) == 1,
        notes=tuple(_notes(a.manifest, b.manifest, predictor.key)),
        class_names=a.manifest.dataset.shape.class_names,
    )


def _mcnemar(right_a: Mask, right_b: Mask) -> McNemar:
    alone_a, alone_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return McNemar(
        test_images=len(right_a),
        both_right=int((right_a & right_b).sum()),
        neither_right=int((~right_a & ~right_b).sum()),
        a_alone_right=alone_a,
        b_alone_right=alone_b,
        p_value=min(1.0, 2 * mcnemar_p(*sorted((alone_a, alone_b)))),
    )


def _side(manifest: Manifest, accuracy: float) -> Side:
    return Side(
        run_id=manifest.run_id,
        created=manifest.created.isoformat(),
        accuracy=accuracy,
        loss=manifest.final.loss,
        steps=manifest.final.step,
        seed=manifest.seed,
        engine=manifest.engine,
        recipe=recipe_of(manifest.config).label,
        train_seconds=manifest.train_seconds,
    )


def _differences(a: Manifest, b: Manifest) -> Iterator[Setting]:
    """Return the settings that differ, except places, and then what was used where that differs."""
    for name in sorted({*a.config, *b.config} - PLACES):
        if a.config.get(name) != b.config.get(name):
            yield Setting(name, a.config.get(name), b.config.get(name))
    for name, left, right in zip(_MADE, _made(a), _made(b), strict=True):
        if left != right:
            yield Setting(name, left, right)


_MADE: Final = ("engine used", "device used", "seed of the model", "dataset key", "code", "code, SHA-256")


def _made(manifest: Manifest) -> tuple[JsonValue, ...]:
    seed = manifest.seed if len(manifest.seeds) > 1 else None  # otherwise it is a setting
    code = manifest.code
    return manifest.engine, manifest.device, seed, manifest.dataset.key, code.version, code.sha256[:_DIGEST]


def _checkpoints(a: Manifest, b: Manifest) -> Iterator[CheckpointPair]:
    of_a, of_b = ({point.step: point for point in manifest.checkpoints} for manifest in (a, b))
    for step in sorted({*of_a, *of_b}):
        left, right = of_a.get(step), of_b.get(step)
        yield CheckpointPair(
            step=step,
            accuracy_a=left.accuracy if left else None,
            accuracy_b=right.accuracy if right else None,
            loss_a=left.loss if left else None,
            loss_b=right.loss if right else None,
        )


def _classes(labels: Classes, right_a: Mask, right_b: Mask) -> Iterator[ClassPair]:
    images = np.bincount(labels).tolist()
    hits_a, hits_b = (np.bincount(labels[right], minlength=len(images)).tolist() for right in (right_a, right_b))
    for label, (size, a, b) in enumerate(zip(images, hits_a, hits_b, strict=True)):
        yield ClassPair(label, size, a / size if size else None, b / size if size else None)


def _disputed(where: Mask, labels: Classes, by_a: Classes, by_b: Classes) -> tuple[DisputedImage, ...]:
    rows = np.flatnonzero(where)
    columns = (rows, labels[rows], by_a[rows], by_b[rows])
    return tuple(DisputedImage(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def _notes(a: Manifest, b: Manifest, key: str) -> Iterator[str]:
    losses = {recipe_of(manifest.config).loss for manifest in (a, b)}
    if len(losses) > 1:
        yield "the losses are of two kinds, squared error and cross-entropy, and cannot be compared"
    others = [name for name, manifest in (("A", a), ("B", b)) if manifest.dataset.key != key]
    if others:
        yield (
            f"compared on the present test images of {a.dataset.name}, which are not those that "
            f"{' and '.join(others)} {'were' if len(others) > 1 else 'was'} evaluated on"
        )
