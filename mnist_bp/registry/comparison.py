"""The two sides of a comparison: published models, and what predicts with them on the same test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from mnist_bp.data.parquet import load_split
from mnist_bp.documents.manifest import Manifest
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import ResidentData
from mnist_bp.errors import ConfigError
from mnist_bp.model.recipe import recipe_of
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.gate import Classes
from mnist_bp.registry.loading import read_weights
from mnist_bp.results.dataset import CachedDataset, DatasetShape
from mnist_bp.storage.interface import Store


@dataclass(frozen=True)
class PublishedModel:
    """A published run, as one side of a comparison.

    Args:
        run_id: Its id.
        manifest: Its manifest, checked.
        manifest_sha256: Digest of the manifest.
    """

    run_id: str
    manifest: Manifest
    manifest_sha256: str

    @property
    def dataset(self) -> str:
        """Name of the dataset that it was trained on."""
        return self.manifest.dataset.name


def read_published_model(store: Store, run_id: str, manifest_sha256: str | None = None) -> PublishedModel:
    """Read a run's manifest; see `mnist_bp.registry.catalog.read_manifest`."""
    return PublishedModel(run_id, *read_manifest(store, run_id, manifest_sha256))


def shape_difference(a: DatasetShape, b: DatasetShape) -> str | None:
    """Return how two datasets of one name differ in their images or classes, or None if their models are comparable."""
    if (a.width, a.height) != (b.width, b.height):
        return f"with images of {a.width} x {a.height} and of {b.width} x {b.height} pixels"
    if a.class_names == b.class_names:
        return None
    if a.classes != b.classes:
        return f"with {a.classes} and {b.classes} classes"
    first = next((old, new) for old, new in zip(a.class_names, b.class_names, strict=True) if old != new)
    return f"with other classes, such as {first[0]} and {first[1]}"


class Predictor(Protocol):
    """Test images with their true classes, and what published models predict for them."""

    @property
    def key(self) -> str:
        """Key of the dataset that the images are from; see `mnist_bp.results.dataset.CachedDataset`."""
        ...

    @property
    def labels(self) -> Classes:
        """The true classes, shape (N,)."""
        ...

    def predict(self, model: PublishedModel) -> Classes:
        """Return the classes that a model predicts, shape (N,)."""
        ...


class EnginePredictor:
    """A `Predictor` that reads the models from a store and computes with an engine.

    The test images and each model are read when they are first needed.

    Args:
        store: Store with the published runs.
        data: The dataset; its test split is used.
        engine: Name of the engine.
    """

    def __init__(self, store: Store, data: CachedDataset, engine: str) -> None:
        self._store, self._data, self._engine = store, data, engine
        self._predicted: dict[str, Classes] = {}

    @property
    def key(self) -> str:
        """See `Predictor`."""
        return self._data.key

    @property
    def labels(self) -> Classes:
        """See `Predictor`."""
        return self._test[1]

    def predict(self, model: PublishedModel) -> Classes:
        """See `Predictor`. The model is checked against the digest in its manifest.

        Raises:
            ConfigError: It was trained on images of another size, or with other classes, than the dataset has now.
        """
        if difference := shape_difference(model.manifest.dataset.shape, self._data.shape):
            raise ConfigError(
                f"{model.run_id} was trained on another dataset named {model.dataset}, {difference}: expected the "
                "images that it was trained on, or others of their size with the same classes"
            )
        if model.run_id not in self._predicted:
            parameters = read_weights(self._store, model.manifest)
            activation = recipe_of(model.manifest.config).activation
            self._predicted[model.run_id] = self._test[0].predict(parameters, activation).argmax(1)
        return self._predicted[model.run_id]

    @cached_property
    def _test(self) -> tuple[ResidentData, Classes]:
        images, labels = load_split(self._data.test)
        return choose_engine(self._engine)[0].load(images, labels, self._data.shape.classes), labels
