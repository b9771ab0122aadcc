"""A model in a format that other tools read, checked against an engine before it is used.

    onnx     a graph from bytes to outputs, for ONNX Runtime and all that reads ONNX; needs the package onnx
    npz      NumPy arrays: W1, b1, W2, b2, and the activation, the pixel scale and the metadata as arrays without axes
    torch    safetensors: the state of nn.Sequential(Linear, Sigmoid or ReLU, Linear, Sigmoid), which takes x in [0, 1]

Equal models and metadata give equal bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final, Literal, NamedTuple

import numpy as np
import safetensors.numpy
from pydantic import JsonValue

from mnist_bp.documents.manifest import Manifest
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import PIXEL_SCALE
from mnist_bp.errors import DataFormatError
from mnist_bp.model.inference import predict
from mnist_bp.model.parameters import FloatArray, Model, Parameters, UInt8Array
from mnist_bp.model.recipe import Activation, recipe_of
from mnist_bp.registry.onnx_model import encode_onnx, run_onnx
from mnist_bp.results.dataset import DatasetShape
from mnist_bp.training.checkpoints import METADATA_KEY

FormatName = Literal["onnx", "npz", "torch"]

TOLERANCE: Final = 1e-6
"""Largest accepted difference of an output, in [0, 1], from an engine that computes in float64."""

_IMAGES: Final = 200
_NONZERO_SHARE: Final = 0.19
"""Number of images of the check, and the share of their pixels that are not zero, as in MNIST."""


class Format(NamedTuple):
    """A format of files.

    Args:
        suffix: End of the file's name.
        encode: Encodes a model, its activation and its metadata (as JSON).
        outputs: Computes the outputs of images, shape (N, K), as a reader of the file does.
    """

    suffix: str
    encode: Callable[[Model, Activation, str], bytes]
    outputs: Callable[[bytes, UInt8Array, Activation], FloatArray]


class Export(NamedTuple):
    """An encoded model.

    Args:
        content: Contents of the file.
        engine: Name of the engine that the outputs were compared with.
        difference: Largest difference of an output from that engine.
    """

    content: bytes
    engine: str
    difference: float


def export_model(model: Model, activation: Activation, metadata: Mapping[str, JsonValue], to: FormatName) -> Export:
    """Encode a model, and check what a reader of the file computes.

    Args:
        model: float32 weights.
        activation: Activation of the hidden units.
        metadata: JSON values, stored in the file.
        to: The format.

    Raises:
        ConfigError: The package onnx is not installed.
        DataFormatError: The outputs differ from an engine's.
    """
    found = FORMATS[to]
    content = found.encode(model, activation, json.dumps(metadata, sort_keys=True))
    images = _sparse_images(len(model.W1))
    engine, _ = choose_engine("auto")
    data = engine.load(images, np.zeros(len(images), np.uint8), model.W2.shape[1])
    expected = data.predict(model.map(lambda array: array.astype(np.float64)), activation)
    difference = float(np.abs(found.outputs(content, images, activation) - expected).max())
    if not difference <= TOLERANCE:  # or not a number
        raise DataFormatError(
            f"the exported model computes outputs that differ by up to {difference:.1e} from those of the "
            f"{engine.name} engine, expected at most {TOLERANCE:.0e}; it is not written; install the versions of "
            "requirements.lock"
        )
    return Export(content, engine.name, difference)


def metadata_of(manifest: Manifest) -> dict[str, JsonValue]:
    """Describe a model for a reader of an exported file: what decides its weights, and their accuracy.

    Equal weights of two runs have equal descriptions, whatever the runs are called and wherever they are stored.
    """
    return {
        "accuracy": manifest.final.accuracy,
        "batch_size": manifest.config.get("batch_size"),
        "dataset": {"name": manifest.dataset.name, "key": manifest.dataset.key, **_named(manifest.dataset.shape)},
        "engine": {"name": manifest.engine, "device": manifest.device},
        "held_out": manifest.validation_examples,
        "recipe": asdict(recipe_of(manifest.config)),
        "seed": manifest.seed,
        "step": manifest.final.step,
    }


def _named(shape: DatasetShape) -> dict[str, JsonValue]:
    """Describe what a reader must know of images that are not like MNIST's: their size, and the name of each output."""
    if shape.like_mnist:
        return {}
    return {"height": shape.height, "width": shape.width, "class_names": list(shape.class_names)}


def _encode_npz(model: Model, activation: Activation, metadata: str) -> bytes:
    sink = io.BytesIO()
    weights = model.map(np.ascontiguousarray)._asdict()
    np.savez(sink, **weights, activation=activation, scale=np.float32(PIXEL_SCALE), metadata=metadata)
    return sink.getvalue()


def _run_npz(content: bytes, images: UInt8Array, _activation: Activation) -> FloatArray:
    with np.load(io.BytesIO(content)) as arrays:
        model = Parameters(*(arrays[name] for name in Parameters._fields))
        return _forward(model, images, arrays["activation"].item(), float(arrays["scale"]))


def _encode_torch(model: Model, _activation: Activation, metadata: str) -> bytes:
    W1, b1, W2, b2 = map(np.ascontiguousarray, (model.W1.T, model.b1, model.W2.T, model.b2))  # Linear has (out, in)
    state = {"0.weight": W1, "0.bias": b1, "2.weight": W2, "2.bias": b2}
    return safetensors.numpy.save(state, {METADATA_KEY: metadata})


def _run_torch(content: bytes, images: UInt8Array, activation: Activation) -> FloatArray:
    state = safetensors.numpy.load(content)
    model = Parameters(state["0.weight"].T, state["0.bias"], state["2.weight"].T, state["2.bias"])
    return _forward(model, images, activation, 1 / 255)


def _run_onnx(content: bytes, images: UInt8Array, _activation: Activation) -> FloatArray:
    return run_onnx(content, images)


def _forward(model: Model, images: UInt8Array, activation: Activation, scale: float) -> FloatArray:
    return predict(model.map(lambda array: array.astype(np.float64)), images, activation, scale)


def _sparse_images(inputs: int) -> UInt8Array:
    """Draw images of shape (N, D) that are as sparse as digits; always the same."""
    draw = np.random.RandomState(1)
    pixels = draw.randint(256, size=(_IMAGES, inputs)) * (draw.random_sample((_IMAGES, inputs)) < _NONZERO_SHARE)
    return pixels.astype(np.uint8)


FORMATS: Final[Mapping[FormatName, Format]] = {
    "onnx": Format(".onnx", encode_onnx, _run_onnx),
    "npz": Format(".npz", _encode_npz, _run_npz),
    "torch": Format(".safetensors", _encode_torch, _run_torch),
}
