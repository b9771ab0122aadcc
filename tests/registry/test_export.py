"""Models in the formats of other tools: those tools compute what the engine does."""

from __future__ import annotations

import io
import sys
import time
from typing import Final, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from pydantic import JsonValue
from safetensors.torch import load

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import ResidentData
from mnist_bp.errors import ConfigError, DataFormatError
from mnist_bp.model.parameters import FloatArray, Model
from mnist_bp.model.recipe import Activation
from mnist_bp.presets import PRESETS
from mnist_bp.registry.export import FORMATS, FormatName, export_model
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.loop import example_orders, initial_models, train

STEPS: Final = 3_000
METADATA: Final[dict[str, JsonValue]] = {"config": {"hidden": 30}, "seeds": [1]}
NAMES: Final = get_args(FormatName)


class Trained(NamedTuple):
    model: Model
    activation: Activation
    images: npt.NDArray[np.uint8]
    data: ResidentData

    def outputs(self, dtype: npt.DTypeLike) -> FloatArray:
        """Predict all test images with the engine."""
        return self.data.predict(self.model.map(lambda array: array.astype(dtype)), self.activation)


@pytest.fixture(scope="module", params=["lab-8-4", "relu-128"])
def trained(request: pytest.FixtureRequest, mnist: CachedDataset) -> Trained:
    """A network of each activation after some thousand steps."""
    config = PRESETS[request.param].model_copy(update={"steps": STEPS, "checkpoint_every": STEPS})
    engine, _ = choose_engine("cpu")
    images, labels = load_split(mnist.train)
    orders = example_orders(config, images, [1])
    (reached,) = train(config, engine.load(images, labels), initial_models(config, [1]), orders)
    test_images, test_labels = load_split(mnist.test)
    assert len(test_images) == 10_000
    return Trained(reached.models[0], config.activation, test_images, engine.load(test_images, test_labels))


def with_onnxruntime(content: bytes, images: npt.NDArray[np.uint8], _activation: str) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": images})
    assert outputs.dtype == np.float32
    return outputs  # type: ignore[no-any-return]


def with_numpy(content: bytes, images: npt.NDArray[np.uint8], activation: str) -> npt.NDArray[np.float32]:
    arrays = np.load(io.BytesIO(content))
    assert arrays["activation"] == activation
    z1 = images * arrays["scale"] @ arrays["W1"] + arrays["b1"]
    a1 = z1.clip(min=0) if arrays["activation"] == "relu" else 1 / (1 + np.exp(-z1))
    found: npt.NDArray[np.float32] = 1 / (1 + np.exp(-(a1 @ arrays["W2"] + arrays["b2"])))
    assert found.dtype == np.float32
    return found


def with_torch(content: bytes, images: npt.NDArray[np.uint8], activation: str) -> npt.NDArray[np.float32]:
    state = load(content)
    (hidden, inputs), (classes, _) = state["0.weight"].shape, state["2.weight"].shape
    unit = torch.nn.ReLU() if activation == "relu" else torch.nn.Sigmoid()
    network = torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden), unit, torch.nn.Linear(hidden, classes), torch.nn.Sigmoid()
    )
    network.load_state_dict(state)
    with torch.inference_mode():
        return network(torch.from_numpy(images).float() / 255).numpy()  # type: ignore[no-any-return]


READERS: Final = {"onnx": with_onnxruntime, "npz": with_numpy, "torch": with_torch}


@pytest.mark.parametrize("to", NAMES)
def test_a_reader_of_the_file_classifies_all_test_images_as_the_engine_does(to: FormatName, trained: Trained) -> None:
    content = export_model(trained.model, trained.activation, METADATA, to).content
    found, expected = READERS[to](content, trained.images, trained.activation), trained.outputs(np.float32)
    assert found.shape == expected.shape == (10_000, 10)
    assert (found.argmax(1) == expected.argmax(1)).all()
    assert np.abs(found - expected).max() < 1e-5  # both round to float32 at each operation, in other orders


def test_the_outputs_of_onnx_runtime_are_those_of_the_engine_within_1e_6(trained: Trained) -> None:
    """Of the engine in float64: in float32, the engine's own rounding is larger than that."""
    exported = export_model(trained.model, trained.activation, METADATA, "onnx")
    found = with_onnxruntime(exported.content, trained.images, trained.activation)
    assert np.abs(found - trained.outputs(np.float64)).max() < 1e-6
    assert 0 < exported.difference < 1e-6


def test_one_image_and_many_have_the_same_outputs_in_onnx_runtime(trained: Trained) -> None:
    content = export_model(trained.model, trained.activation, METADATA, "onnx").content
    many = with_onnxruntime(content, trained.images[:100], "")
    assert [with_onnxruntime(content, trained.images[i : i + 1], "").tolist() for i in (0, 99)] == [
        many[i : i + 1].tolist() for i in (0, 99)
    ]


@pytest.mark.parametrize("to", NAMES)
def test_equal_models_give_equal_bytes_at_any_time(
    to: FormatName, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export_model(trained.model, trained.activation, METADATA, to).content
    monkeypatch.setattr(time, "time", lambda: 2e9)
    copy = trained.model.map(lambda array: np.asfortranarray(array.copy()))
    assert export_model(copy, trained.activation, METADATA, to).content == first
    assert export_model(copy, trained.activation, {**METADATA, "seeds": [2]}, to).content != first


def test_the_metadata_and_the_names_of_inputs_and_outputs_are_in_the_onnx_file(trained: Trained) -> None:
    read = onnx.load_model_from_string(export_model(trained.model, trained.activation, METADATA, "onnx").content)
    assert {each.key: each.value for each in read.metadata_props} == {
        "mnist_bp": '{"config": {"hidden": 30}, "seeds": [1]}'
    }
    assert [each.name for each in (*read.graph.input, *read.graph.output)] == ["images", "outputs"]


@pytest.mark.parametrize("to", NAMES)
def test_a_file_that_computes_something_else_is_refused(
    to: FormatName, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = FORMATS[to].encode

    def wrong(model: Model, activation: Activation, metadata: str) -> bytes:
        return encode(model._replace(b2=model.b2[::-1]), activation, metadata)

    monkeypatch.setitem(FORMATS, to, FORMATS[to]._replace(encode=wrong))
    with pytest.raises(DataFormatError, match=r"differ by up to \d.*, expected at most 1e-06; it is not written"):
        export_model(trained.model, trained.activation, METADATA, to)


def test_without_the_package_the_message_names_the_extra(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'mnist-bp\[onnx\]'"):
        export_model(trained.model, trained.activation, METADATA, "onnx")
    for to in ("npz", "torch"):
        assert export_model(trained.model, trained.activation, METADATA, to).content
