"""Who is compared with whom, and on what: published runs, their models read by digest, and the test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

from mnist_bp.data.parquet import load_split
from mnist_bp.documents import Manifest
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import ResidentData
from mnist_bp.layout import RUNS
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.gate import Classes
from mnist_bp.results import CachedDataset
from mnist_bp.storage.interface import Store
from mnist_bp.training.checkpoints import decode_checkpoint

MODEL: Final = "model.safetensors"


@dataclass(frozen=True)
class PublishedModel:
    """A published run, as one of the two that are compared.

    Args:
        run_id: Which.
        manifest: What it says of itself, proved.
        manifest_sha256: Its digest.
    """

    run_id: str
    manifest: Manifest
    manifest_sha256: str

    @property
    def dataset(self) -> str:
        """Name of what it was trained on."""
        return self.manifest.dataset.name

    @property
    def key(self) -> str:
        """Digest of what that was made from; see `CachedDataset.key`."""
        return self.manifest.dataset.key


def read_published_model(store: Store, run_id: str, manifest_sha256: str | None = None) -> PublishedModel:
    """Read a run's manifest; see `mnist_bp.registry.catalog.read_manifest`."""
    return PublishedModel(run_id, *read_manifest(store, run_id, manifest_sha256))


class Predictor(Protocol):
    """Knows the right classes of the test images, and what a published model says they are."""

    @property
    def key(self) -> str:
        """Digest of what the images come from."""
        ...

    @property
    def labels(self) -> Classes:
        """The right classes, shape (N,)."""
        ...

    def predict(self, contestant: PublishedModel) -> Classes:
        """Classify the test images by a run's model, shape (N,)."""
        ...


class EnginePredictor:
    """The test split, put to the models of published runs by one engine. It is read when first needed.

    Args:
        store: Where the runs are published.
        data: Whose test split.
        engine: Name of the engine that predicts.
    """

    def __init__(self, store: Store, data: CachedDataset, engine: str) -> None:
        self._store, self._data, self._engine = store, data, engine
        self._answers: dict[str, Classes] = {}

    @property
    def key(self) -> str:
        """See `Predictor`."""
        return self._data.key

    @property
    def labels(self) -> Classes:
        """See `Predictor`."""
        return self._test[1]

    def predict(self, contestant: PublishedModel) -> Classes:
        """Read the run's model by its digest and classify every test image; see `Predictor`."""
        if contestant.run_id not in self._answers:
            key = f"{RUNS}{contestant.run_id}/{MODEL}"
            content = self._store.get(key, contestant.manifest.files[MODEL].sha256)
            (model,) = decode_checkpoint(content, self._store.uri(key))
            self._answers[contestant.run_id] = self._test[0].predict(model).argmax(1)
        return self._answers[contestant.run_id]

    @cached_property
    def _test(self) -> tuple[ResidentData, Classes]:
        images, labels = load_split(self._data.test)
        return choose_engine(self._engine)[0].load(images, labels), labels
