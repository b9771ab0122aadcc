"""A model as an ONNX graph, from the bytes of images to the outputs of the network.

    images  uint8 (N, D)  ->  x = images / 255  ->  z1, a1, z2, a2 in float64  ->  outputs  float32 (N, K)

The weights are stored as float32. The graph computes in float64, so that every runtime returns the same float32
outputs, whatever the order of its sums: in float32, two of them differ by up to 5e-6, and so do the engines.

The package onnx is imported when it is needed; it is an optional dependency.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import FloatArray, Model, UInt8Array
from mnist_bp.model.recipe import Activation
from mnist_bp.training.checkpoints import METADATA_KEY

OPSET: Final = 17
IR_VERSION: Final = 8
"""Versions of the operators and of the file; ONNX Runtime has read them since 1.12, of July 2022."""


def encode_onnx(model: Model, activation: Activation, metadata: str) -> bytes:
    """Encode a model.

    Args:
        model: float32 weights.
        activation: Activation of the hidden units.
        metadata: JSON, stored under the key `mnist_bp` of the file's metadata.

    Raises:
        ConfigError: The package onnx is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError as exc:
        raise ConfigError(
            f"the package onnx, which writes ONNX files, cannot be imported ({exc}); expected the extra onnx: "
            "pip install 'mnist-bp[onnx]'"
        ) from exc
    node, double = helper.make_node, TensorProto.DOUBLE
    # fmt: off
    nodes = [
        *(node("Cast", [_stored(name)], [name], to=double) for name in model._fields),
        node("Cast", ["images"], ["pixels"], to=double),  # (N, D)
        node("Div", ["pixels", "255"], ["x"]),            # (N, D)
        node("Gemm", ["x", "W1", "b1"], ["z1"]),          # (N, H)  x W1 + b1
        node("Relu" if activation == "relu" else "Sigmoid", ["z1"], ["a1"]),
        node("Gemm", ["a1", "W2", "b2"], ["z2"]),         # (N, K)  a1 W2 + b2
        node("Sigmoid", ["z2"], ["a2"]),                  # (N, K)
        node("Cast", ["a2"], ["outputs"], to=TensorProto.FLOAT),
    ]
    # fmt: on
    constants = [
        numpy_helper.from_array(each, _stored(name)) for name, each in model.map(np.ascontiguousarray)._asdict().items()
    ]
    constants.append(numpy_helper.from_array(np.array(255.0), "255"))
    inputs = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", model.W1.shape[0]])
    outputs = helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["N", model.W2.shape[1]])
    graph = helper.make_graph(nodes, "mnist_bp", [inputs], [outputs], constants)
    opset = [helper.make_opsetid("", OPSET)]
    encoded = helper.make_model(graph, producer_name="mnist-bp", ir_version=IR_VERSION, opset_imports=opset)
    helper.set_model_props(encoded, {METADATA_KEY: metadata})
    checker.check_model(encoded, full_check=True)
    content: bytes = encoded.SerializeToString(deterministic=True)
    return content


def _stored(name: str) -> str:
    return f"{name}_float32"


def run_onnx(content: bytes, images: UInt8Array) -> FloatArray:
    """Compute the outputs of images with the reference implementation of ONNX, which is NumPy.

    Args:
        content: Contents of an ONNX file.
        images: Pixels in [0, 255], shape (N, D).

    Returns:
        Shape (N, K), float32.
    """
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):  # it computes both forms of the sigmoid everywhere, and keeps the finite one
        found = ReferenceEvaluator(content).run(["outputs"], {"images": images})
    assert isinstance(found, list)
    outputs: FloatArray = found[0]
    return outputs
