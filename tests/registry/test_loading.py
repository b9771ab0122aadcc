"""`load_model`: a published model is verified, loads without torch, and predicts what the engines predict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_bp import TrainedModel, load_model
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import ChecksumError, ConfigError, DataFormatError, MnistBpError, StoreError
from mnist_bp.layout import MODEL, run_key
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.local import LocalStore
from mnist_bp.training.checkpoints import save_checkpoint
from tests.support.published_runs import promote, publish, run_id_of

IMAGES = np.zeros((2, 28, 28), np.uint8)


@pytest.fixture
def model(digits_store: tuple[str, str]) -> TrainedModel:
    artifacts, _ = digits_store
    return load_model("champion:mnist-sample", artifacts)


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_outputs_are_those_of_the_engines(model: TrainedModel, sample: CachedDataset, engine: str) -> None:
    images, labels = load_split(sample.test)
    expected = choose_engine(engine)[0].load(images, labels).predict(model.weights, model.activation)
    found = model(images)
    assert found.dtype == np.float32
    assert found.shape == (1_000, 10)
    assert np.abs(found - expected).max() <= 1e-5
    assert (found.argmax(1) == expected.argmax(1)).all()
    accuracy = (found.argmax(1) == labels).mean()
    assert accuracy == pytest.approx(model.manifest.final.accuracy)
    assert accuracy > 0.9


def test_images_are_squares_or_rows(model: TrainedModel, sample: CachedDataset) -> None:
    images, _ = load_split(sample.test)
    assert np.array_equal(model(images[:5].reshape(-1, 28, 28)), model(images[:5]))
    assert np.array_equal(model(list(images[:5])), model(images[:5]))
    assert model(images[:0]).shape == (0, 10)


@pytest.mark.parametrize("name", ["champion", "champion:mnist-sample", "latest", "id", "start of the id"])
def test_a_model_is_loaded_by_every_name_of_its_run(digits_store: tuple[str, str], name: str) -> None:
    artifacts, run_id = digits_store
    model = load_model({"id": run_id, "start of the id": run_id[:12]}.get(name, name), Path(artifacts))
    manifest, _ = read_manifest(LocalStore(Path(artifacts)), run_id)
    assert (model.run_id, model.manifest) == (run_id, manifest)
    assert model.scale == 1 / 255
    assert {name: each.shape for name, each in model.weights._asdict().items()} == {
        "W1": (784, 64), "b1": (64,), "W2": (64, 10), "b2": (10,)
    }  # fmt: skip


def test_the_store_is_that_of_the_environment(digits_store: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts, run_id = digits_store
    with pytest.raises(StoreError, match="there is no store at"):
        load_model()
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", artifacts)
    assert load_model().run_id == run_id


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES / 255, "the images are float64 of shape (2, 28, 28), expected uint8 of shape (N, 28, 28) or (N, 784)"),
        (IMAGES.astype(np.int64), "the images are int64 of shape"),
        (IMAGES[0], "(28, 28), expected uint8 of shape (N, 28, 28) or (N, 784); a single image is images[numpy"),
        (IMAGES.reshape(-1), "of shape (1568,), expected"),
        (IMAGES[:, :14], "of shape (2, 14, 28), expected"),
        (IMAGES.reshape(2, 14, 56), "of shape (2, 14, 56), expected"),
        (IMAGES[..., np.newaxis], "of shape (2, 28, 28, 1), expected"),
    ],
)  # fmt: skip
def test_other_arrays_are_refused_in_one_line(model: TrainedModel, images: Any, expected: str) -> None:
    with pytest.raises(DataFormatError) as refused:
        model(images)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("name", "artifacts", "error", "expected"),
    [
        ("champion:kmnist", None, StoreError, "there is no champion of kmnist yet"),
        ("20261123T000000Z-00000000", None, StoreError, "no such run; the nearest are"),
        ("2026", None, ConfigError, "expected an id, or at least 6 characters of its start"),
        ("../x", None, StoreError, "no such run"),
        ("champion", "", ConfigError, "artifacts is empty, expected a directory or s3://bucket/prefix"),
        ("champion", "nowhere", StoreError, "there is no store at"),
        ("champion", "s3:/bucket", ConfigError, "is not the address of a store"),
    ],
)
def test_a_name_without_a_model_is_one_line(
    digits_store: tuple[str, str], name: str, artifacts: str | None, error: type[MnistBpError], expected: str
) -> None:
    with pytest.raises(error) as refused:
        load_model(name, digits_store[0] if artifacts is None else artifacts)
    assert expected in str(refused.value)


def weights_of(models: int) -> bytes:
    path = Path("model.safetensors")
    save_checkpoint(path, [initial_parameters(seed, 784, 30, 10) for seed in range(models)], {})
    return path.read_bytes()


def test_damaged_weights_are_not_parsed() -> None:
    store = LocalStore(Path("artifacts"))
    run_id = publish(store, 1, contents={MODEL: weights_of(1)})
    assert load_model("latest").run_id == run_id
    path = Path("artifacts", run_key(run_id, MODEL))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"model\.safetensors is damaged: SHA-256 expected"):
        load_model("latest")


def test_a_manifest_that_replaced_the_champions_is_refused() -> None:
    store = LocalStore(Path("artifacts"))
    run_id = publish(store, 1, contents={MODEL: weights_of(1)})
    assert promote(store, run_id)
    assert load_model("champion").run_id == run_id
    path = Path("artifacts", run_key(run_id, "manifest.json"))
    manifest = checksummed_json.loads(path.read_bytes(), "", "")
    path.chmod(0o644)
    path.write_bytes(checksummed_json.dumps({**manifest, "config": {"activation": "relu"}}))
    assert load_model(run_id).activation == "relu", "it is valid by itself"
    with pytest.raises(ChecksumError, match=r"manifest\.json is damaged: SHA-256 expected"):
        load_model("champion")


def test_the_weights_of_several_models_are_no_model() -> None:
    publish(LocalStore(Path("artifacts")), 1, contents={MODEL: weights_of(2)})
    with pytest.raises(DataFormatError, match="has 2 models, expected one"):
        load_model("latest")


def test_a_run_without_weights_is_one_line() -> None:
    publish(LocalStore(Path("artifacts")), 1, contents={"report.html": b"report"})
    with pytest.raises(DataFormatError, match=rf"the manifest of {run_id_of(1)} lists no model\.safetensors"):
        load_model("latest")


def test_a_model_is_used_without_torch_and_prefect(digits_store: tuple[str, str]) -> None:
    script = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "torch", "prefect", "numba", "pyarrow", "boto3", "httpx", "rich", "matplotlib", "jinja2", "PIL",
            "pydantic_settings",
        }:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import numpy as np
from mnist_bp import load_model

model = load_model("champion", artifacts=sys.argv[1])
print(model.run_id, model(np.zeros((3, 28, 28), np.uint8)).shape)
"""
    artifacts, run_id = digits_store
    done = subprocess.run([sys.executable, "-c", script, artifacts], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{run_id} (3, 10)\n", "")


def test_the_package_has_no_other_lazy_names() -> None:
    import mnist_bp

    with pytest.raises(AttributeError, match="module 'mnist_bp' has no attribute 'load_models'"):
        mnist_bp.load_models  # noqa: B018
