"""A dataset of images and classes that are not MNIST's is trained, published, loaded, compared and predicted with."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from mnist_bp import load_model
from mnist_bp.cli.main import main
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.errors import ConfigError, DataFormatError
from mnist_bp.layout import MANIFEST, checkpoint_path
from mnist_bp.pipeline import preprocess
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.comparison import EnginePredictor, read_published_model
from mnist_bp.registry.gate import GateSettings, decide
from mnist_bp.registry.loading import read_weights
from mnist_bp.registry.manifest import HISTORY
from mnist_bp.results.dataset import MNIST_SHAPE, DatasetShape
from mnist_bp.storage.local import LocalStore
from mnist_bp.summary import accuracy_rows
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.loop import example_orders, initial_models, train
from mnist_bp.training.run import train_run
from tests.support.drawings import png
from tests.support.published_runs import EvaluatedRun
from tests.support.word_digits import SHAPE, train_on_words, word_digits

SHIFTED: dict[str, Any] = {"steps": 600, "checkpoint_every": 200, "shift": 1, "seeds": "2"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> EvaluatedRun:
    return train_on_words(tmp_path_factory.mktemp("words"), **SHIFTED)


@pytest.fixture(scope="module")
def store(run: EvaluatedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("artifacts")
    run.publish(str(place))
    return place


def test_the_manifest_has_the_size_and_the_names_and_no_figure_of_the_lab(run: EvaluatedRun, store: Path) -> None:
    document = json.loads((store / "runs" / run.trained.run_id / MANIFEST).read_text())
    assert document["dataset"]["shape"] == {"height": 8, "width": 12, "class_names": list(SHAPE.class_names)}
    assert [point["lab_correct_of_1000"] for point in document["checkpoints"]] == [None] * 3
    manifest, _ = read_manifest(LocalStore(store), run.trained.run_id)
    assert manifest.dataset.shape == SHAPE
    assert manifest.certificate["shape"] == {"inputs": 96, "hidden": 30, "classes": 10, "batch_size": 10}
    assert manifest.final.accuracy > 0.7
    assert "lab correct of 1,000" not in accuracy_rows(manifest.checkpoints)[0]


def test_the_history_has_the_columns_of_every_run_and_no_figure_of_the_lab(run: EvaluatedRun, store: Path) -> None:
    content = (store / "runs" / run.trained.run_id / "history.parquet").read_bytes()
    table = pq.read_table(io.BytesIO(content))
    assert table.schema.equals(HISTORY)
    assert table["lab_correct_of_1000"].null_count == len(table) == 6


def test_a_resumed_run_ends_in_the_same_bits(run: EvaluatedRun, tmp_path: Path) -> None:
    copy = run.copied_to(tmp_path)
    for step in (400, 600):
        checkpoint_path(Path(copy.trained.directory), step).unlink()
    config = copy.config.model_copy(update={"data_dir": str(tmp_path)})
    again = train_run(config, run.data, run.trained.run_id)
    assert [point.step for point in again.resumed] == [200]
    digests = [[point.file.sha256 for point in each.checkpoints] for each in (again, run.trained)]
    assert digests[0] == digests[1]


def test_images_are_moved_along_rows_of_the_width_of_the_dataset(run: EvaluatedRun) -> None:
    """The run's weights are those of the training loop with rows of 12 pixels."""
    images, labels = load_split(run.data.train)
    examples = slice(len(images) - run.trained.validation_examples)
    orders = example_orders(run.config, images[examples], run.trained.seeds, 12)
    resident = choose_engine("cpu")[0].load(images[examples], labels[examples])
    *_, last = train(run.config, resident, initial_models(run.config, run.trained.seeds, SHAPE), orders)
    found = load_checkpoint(run.trained.checkpoints[-1].file)
    assert all(np.array_equal(a.W1, b.W1) for a, b in zip(found, last.models, strict=True))


def test_a_model_of_large_images_that_does_not_fit_in_memory_is_refused_in_one_line(
    run: EvaluatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_bp.engines.parallel.available_memory", lambda: 10**9)
    large = replace(run.data, shape=replace(SHAPE, height=1_024, width=1_024))
    monkeypatch.setattr("mnist_bp.pipeline.preprocess_dataset", lambda *_: large)
    config = run.config.model_copy(update={"seeds": None, "hidden": 100})
    with pytest.raises(ConfigError, match=r"^one model needs about 2\.1 GB of memory, and 1\.0 GB are free; "):
        preprocess(config, run.raw)


def test_more_scores_of_own_images_than_fit_in_memory_are_refused_once_their_number_and_classes_are_known(
    run: EvaluatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of own images are checkpoints once the images are counted."""
    monkeypatch.setattr("mnist_bp.engines.parallel.available_memory", lambda: 10**9)
    monkeypatch.setattr("mnist_bp.pipeline.preprocess_dataset", lambda *_: replace(run.data, train_examples=12_000))
    many = {"seeds": "100000", "steps": 10_000, "epochs": 100, "batch_size": 10, "checkpoint_every": 2_200}
    with pytest.raises(ConfigError, match=r"^the scores of 100,000 models at 50 checkpoints need about 1\.1 GB of"):
        preprocess(run.config.model_copy(update=many), run.raw)


def test_a_loaded_model_reads_images_of_the_size_of_its_dataset_and_names_its_classes(
    run: EvaluatedRun, store: Path
) -> None:
    model = load_model("latest", store)
    assert (model.image_shape, model.class_names) == ((8, 12), SHAPE.class_names)
    images, labels = load_split(run.data.test)
    expected = choose_engine("reference")[0].load(images, labels).predict(model.weights, model.activation)
    assert np.abs(model(images.reshape(-1, 8, 12)) - expected).max() <= 1e-5
    assert (expected.argmax(1) == labels).mean() == pytest.approx(model.manifest.final.accuracy)
    with pytest.raises(DataFormatError, match=r"\(N, 8, 12\) or \(N, 96\)"):
        model(np.zeros((1, 28, 28), np.uint8))


@pytest.mark.usefixtures("store")
def test_predict_scales_a_picture_to_the_size_of_the_model_and_prints_names(
    store: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    images, names = word_digits()
    same, large = tmp_path / "same.png", tmp_path / "large.png"
    same.write_bytes(png(images[7]))
    large.write_bytes(png(np.kron(images[7], np.ones((4, 4), np.uint8))))
    assert main(["predict", str(same), str(large), "--run", "latest", "--artifacts", str(store), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["predictions"]
    label = SHAPE.class_names.index(names[7])
    for found in (first, second):
        assert (found["class"], found["class_name"]) == (label, names[7])
    assert np.argsort(first["outputs"]).tolist()[-1] == label
    assert main(["predict", str(large), "--run", "latest", "--artifacts", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [f"{large}: {names[7]}", "48 x 32 pixels, scaled to 12 x 8, light and dark as they are"]
    assert [line.split()[0] for line in lines[4:]] == list(SHAPE.class_names)
    assert main(["predict", str(large), "--run", "latest", "--artifacts", str(store), "--raw"]) == 1
    assert "48 x 32 pixels, expected 12 x 8 with --raw" in capsys.readouterr().err


def test_show_names_the_size_and_the_classes(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "latest", "--artifacts", str(store)]) == 0
    assert f"images         12 x 8 pixels; 10 classes: {', '.join(SHAPE.class_names)}" in capsys.readouterr().out


def test_a_model_is_not_given_images_of_another_size_or_with_other_classes(run: EvaluatedRun, store: Path) -> None:
    """The kernels would read beyond its weights."""
    model = read_published_model(LocalStore(store), run.trained.run_id)
    right = EnginePredictor(LocalStore(store), run.data, "cpu")
    assert (right.predict(model) == right.labels).mean() == pytest.approx(model.manifest.final.accuracy)
    turned, more = replace(SHAPE, height=12, width=8), replace(SHAPE, class_names=(*SHAPE.class_names, "ten"))
    for shape, difference in ((turned, "of 12 x 8 and of 8 x 12 pixels"), (more, "with 10 and 11 classes")):
        predictor = EnginePredictor(LocalStore(store), replace(run.data, shape=shape), "cpu")
        with pytest.raises(ConfigError, match=difference):
            predictor.predict(model)


@pytest.mark.parametrize(
    "shape", [MNIST_SHAPE, DatasetShape(8, 12, ("a", "b")), DatasetShape(12, 8, tuple("abcdefghijk"))]
)
def test_weights_that_do_not_fit_the_manifest_are_refused(run: EvaluatedRun, store: Path, shape: DatasetShape) -> None:
    manifest, _ = read_manifest(LocalStore(store), run.trained.run_id)
    other = manifest.model_copy(update={"dataset": manifest.dataset.model_copy(update={"shape": shape})})
    with pytest.raises(DataFormatError, match="a model of 96 pixels and 10 classes, and its manifest states"):
        read_weights(LocalStore(store), other)


@pytest.mark.parametrize(
    "change", [{"height": 0}, {"width": -12}, {"class_names": ["a"]}, {"class_names": ["a"] * 257}]
)
def test_a_manifest_with_a_senseless_shape_is_refused(
    run: EvaluatedRun, store: Path, change: dict[str, Any], tmp_path: Path
) -> None:
    from mnist_bp.documents import encoding
    from mnist_bp.documents.manifest import Manifest
    from mnist_bp.storage import checksummed_json

    path = store / "runs" / run.trained.run_id / MANIFEST
    document = checksummed_json.loads(path.read_bytes(), "", "")
    document["dataset"]["shape"] |= change
    with pytest.raises(DataFormatError, match=r"dataset\.shape.*expected.*2 to 256 classes"):
        encoding.parse(Manifest, checksummed_json.dumps(document), str(tmp_path), "")


def test_an_exported_file_names_the_size_and_the_classes(store: Path, tmp_path: Path) -> None:
    for to, suffix in (("torch", ".safetensors"), ("onnx", ".onnx"), ("npz", ".npz")):
        path = tmp_path / f"model{suffix}"
        assert main(["export", "latest", "--to", to, "-o", str(path), "--artifacts", str(store)]) == 0
        assert safetensors.numpy.load(path.read_bytes())["0.weight"].shape == (30, 96) if to == "torch" else True
        assert b"seven" in path.read_bytes() if to != "npz" else "seven" in str(np.load(path)["metadata"])


def test_the_gate_names_the_class_that_is_too_seldom_right() -> None:
    labels = np.repeat(np.arange(3), 100)
    challenger = np.where(np.arange(300) < 60, 1, labels)  # 40 of class 0 are right
    found = decide(labels, challenger, (labels + 1) % 3, GateSettings(), 1, 3, ("cat", "cow", "dog"))
    assert "class cat has the lowest accuracy, 0.4000" in found.reason
