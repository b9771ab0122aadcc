"""Published models, loaded to be used: `from mnist_bp import load_model`.

The same checks as everywhere: the manifest has a checksum, and the weights must have the digest that it states. For a
champion, the manifest must have the digest that the champion's log states. Neither torch nor Prefect is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath

import numpy as np
import numpy.typing as npt

from mnist_bp.documents.manifest import Manifest
from mnist_bp.engines.interface import PIXEL_SCALE
from mnist_bp.errors import ConfigError, DataFormatError
from mnist_bp.layout import MANIFEST, MODEL, run_key
from mnist_bp.model.inference import predict
from mnist_bp.model.parameters import FloatArray, Model, UInt8Array
from mnist_bp.model.recipe import Activation, recipe_of
from mnist_bp.registry.catalog import HINT, read_manifest
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.names import CHAMPION_NAME, resolve_run
from mnist_bp.storage.address import clean_address, open_existing_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.os_errors import RESTORE
from mnist_bp.storage.places import artifacts_from_environment
from mnist_bp.storage.reading import expect_digest
from mnist_bp.training.checkpoints import decode_checkpoint


@dataclass(frozen=True)
class TrainedModel:
    """A published model; call it with images.

    Args:
        run_id: Id of its run.
        weights: W1 (D, H), b1 (H,), W2 (H, K) and b2 (K,), float32; with MNIST, D is 784 and K is 10.
        activation: Activation of the hidden units.
        manifest: The manifest of its run: accuracy, configuration, dataset, digests.
        scale: Factor that converts a byte to a pixel.
    """

    run_id: str
    weights: Model = field(repr=False)
    activation: Activation
    manifest: Manifest = field(repr=False)
    scale: float = PIXEL_SCALE

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        shape = self.manifest.dataset.shape
        return shape.height, shape.width

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, in the order of the outputs."""
        return self.manifest.dataset.shape.class_names

    def __call__(self, images: npt.NDArray[np.uint8] | Sequence[UInt8Array]) -> FloatArray:
        """Predict images.

        Args:
            images: Pixels from 0 (background) to 255, shape (N, height, width) or (N, D), uint8; see `image_shape`.

        Returns:
            Outputs in [0, 1], shape (N, K), float32: `argmax(1)` of them is the predicted class.

        Raises:
            DataFormatError: The images have another shape or type.
        """
        array = np.asarray(images)
        height, width = self.image_shape
        if array.dtype != np.uint8 or array.shape[1:] not in ((height, width), (height * width,)):
            single = "; a single image is images[numpy.newaxis]" if array.shape == (height, width) else ""
            raise DataFormatError(
                f"the images are {array.dtype} of shape {array.shape}, expected uint8 of shape "
                f"(N, {height}, {width}) or (N, {height * width}){single}"
            )
        return predict(self.weights, array.reshape(len(array), height * width), self.activation, self.scale)


def load_model(name: str = CHAMPION_NAME, artifacts: str | PathLike[str] | None = None) -> TrainedModel:
    """Load a published model.

    Args:
        name: The run: `champion`, `champion:DATASET`, `latest`, a run id, the start of one, or an alias.
        artifacts: Store of published runs, a directory or s3://bucket/prefix; by default $MNIST_BP_ARTIFACTS, or else
            `artifacts` in the working directory.

    Raises:
        ConfigError: The name fits several runs, or the address is none.
        StoreError: No run has this name, or the store is missing or cannot be read.
        ChecksumError, DataFormatError: The manifest or the weights are damaged.
    """
    address = artifacts_from_environment() if artifacts is None else clean_address(fspath(artifacts))
    if not address:
        raise ConfigError("artifacts is empty, expected a directory or s3://bucket/prefix")
    return load_from(open_existing_store(address), name)


def load_from(store: Store, name: str) -> TrainedModel:
    """Load a published model from an open store; see `load_model`."""
    run_id = resolve_run(store, name)
    manifest, sha256 = read_manifest(store, run_id)
    if name.partition(":")[0] == CHAMPION_NAME:
        current = read_log(store, manifest.dataset.name).current
        if current and current.run_id == run_id:
            expect_digest(store.uri(run_key(run_id, MANIFEST)), sha256, current.manifest_sha256, HINT)
    return TrainedModel(run_id, read_weights(store, manifest), recipe_of(manifest.config).activation, manifest)


def read_weights(store: Store, manifest: Manifest) -> Model:
    """Read the weights of a run's own model, and check them against the digest in its manifest.

    Raises:
        ChecksumError, DataFormatError: They are damaged, or not those of one model.
        StoreError: They are missing, or cannot be read.
    """
    key = run_key(manifest.run_id, MODEL)
    file = manifest.files.get(MODEL)
    if file is None:
        raise DataFormatError(f"the manifest of {manifest.run_id} lists no {MODEL}; {RESTORE}")
    models = decode_checkpoint(store.get(key, file.sha256, file.size), store.uri(key))
    if len(models) != 1:
        raise DataFormatError(f"{store.uri(key)} has {len(models)} models, expected one")
    (inputs, _), classes, shape = models[0].W1.shape, len(models[0].b2), manifest.dataset.shape
    if (inputs, classes) != (shape.inputs, shape.classes):
        raise DataFormatError(
            f"{store.uri(key)} has a model of {inputs:,} pixels and {classes} classes, and its manifest states "
            f"{shape.inputs:,} and {shape.classes}; {RESTORE}"
        )
    return models[0]
