"""Publishing: what readers find, in a directory and on every S3 server present."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import mnist_bp
from mnist_bp.config import RunConfig
from mnist_bp.data.parquet import load_split
from mnist_bp.errors import ChecksumError, StoreError
from mnist_bp.layout import created_at
from mnist_bp.registry.code import code_sha256
from mnist_bp.registry.publish import publish_run
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.results.publication import PublishedRun
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.reading import sha256_of_bytes
from mnist_bp.training.evaluation import evaluate_run
from mnist_bp.training.resume import load_resumable_run
from mnist_bp.training.run import train_run
from tests.support.faulty_store import FaultyStore
from tests.support.published_runs import EvaluatedRun, train_and_evaluate

CHECKPOINTS = [f"checkpoints/step-{step:07d}.safetensors" for step in (100, 200, 300)]
FILES = sorted([*CHECKPOINTS, "model.safetensors", "model.onnx", "history.parquet", "report.html"])


@pytest.fixture(scope="module")
def evaluated(sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory) -> EvaluatedRun:
    return train_and_evaluate(sample_raw, sample, tmp_path_factory.mktemp("run"))


def read_back(published: PublishedRun, store: Store | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a published run as a reader would: the manifest, then every file it lists, each of them checked.

    Args:
        published: What publishing said.
        store: The artifacts' place, where it is open already.
    """
    prefix = f"runs/{published.run_id}/" if store else ""
    store = store or open_store(published.artifacts)
    assert store.uri(f"{prefix}manifest.json") == published.manifest
    manifest = json.loads(store.get(f"{prefix}manifest.json"))
    contents = {name: store.get(prefix + name) for name in manifest["files"]}
    for name, content in contents.items():
        assert manifest["files"][name] == {"sha256": sha256_of_bytes(content), "size": len(content)}, name
    return manifest, contents


def has_manifest(paths: Iterable[str]) -> bool:
    return any(path.endswith("manifest.json") for path in paths)


def scores_of(model: bytes, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Compute accuracy and loss of a published model, without the library's arithmetic."""
    W1, b1, W2, b2 = (safetensors.numpy.load(model)[name].astype(np.float64) for name in ("W1", "b1", "W2", "b2"))
    a1 = 1 / (1 + np.exp(-(images / 255 @ W1 + b1)))
    a2 = 1 / (1 + np.exp(-(a1 @ W2 + b2)))
    loss = ((a2 - np.eye(10)[labels]) ** 2).sum(1).mean() / 2
    return float((a2.argmax(1) == labels).mean()), float(loss)


def publish_to(monkeypatch: pytest.MonkeyPatch, store: Store, fail_at: int | None = None) -> FaultyStore:
    """Have publishing use an open store, with one put that fails; puts are numbered from 0."""

    def fail() -> None:
        raise StoreError(f"put {fail_at} fails", transient=True)

    faulty = FaultyStore(store, before={} if fail_at is None else {("put", fail_at): fail})
    monkeypatch.setattr("mnist_bp.registry.publish.open_store", lambda uri: faulty)
    return faulty


class PublishContract:
    """Claims about every kind of store. Subclasses provide the store."""

    @pytest.fixture
    def artifacts(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def listing(self) -> Callable[[], dict[str, int]]:
        """Return the sizes of all files in the store, by path."""
        raise NotImplementedError

    def test_a_reader_finds_every_file_of_the_run_intact(
        self, evaluated: EvaluatedRun, artifacts: str, listing: Callable[[], dict[str, int]]
    ) -> None:
        published = evaluated.publish(artifacts)
        manifest, contents = read_back(published)
        assert published.run_id == manifest["run_id"] == evaluated.trained.run_id
        assert published.artifacts == f"{artifacts}/runs/{evaluated.trained.run_id}"
        assert sorted(contents) == FILES
        found = listing()
        prefix = f"runs/{evaluated.trained.run_id}"
        assert sorted(found) == sorted(f"{prefix}/{name}" for name in [*FILES, "manifest.json"])
        assert (published.files, published.size) == (len(found), sum(found.values()))

    def test_the_manifest_is_put_last(
        self, evaluated: EvaluatedRun, artifacts: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = publish_to(monkeypatch, open_store(artifacts))
        evaluated.publish(artifacts)
        puts = store.keys_of("put")
        assert sorted(puts) == sorted(f"runs/{evaluated.trained.run_id}/{name}" for name in [*FILES, "manifest.json"])
        assert puts[-1].endswith("/manifest.json")

    @pytest.mark.parametrize("fail_at", range(len(FILES) + 1))
    def test_a_failed_publication_leaves_no_manifest_and_can_be_repeated(
        self,
        fail_at: int,
        evaluated: EvaluatedRun,
        artifacts: str,
        listing: Callable[[], dict[str, int]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = open_store(artifacts)
        failing = publish_to(monkeypatch, store, fail_at)
        with pytest.raises(StoreError, match=f"put {fail_at} fails"):
            evaluated.publish(artifacts)
        puts = failing.keys_of("put")
        assert fail_at < len(puts)
        assert len(listing()) == len(puts) - 1
        assert not has_manifest(listing())
        publish_to(monkeypatch, store)
        manifest, _ = read_back(evaluated.publish(artifacts), store)
        assert sorted(manifest["files"]) == FILES
        assert has_manifest(listing())

    @pytest.mark.parametrize("damaged", range(len(CHECKPOINTS)))
    def test_a_damaged_checkpoint_is_not_published(
        self,
        damaged: int,
        evaluated: EvaluatedRun,
        artifacts: str,
        listing: Callable[[], dict[str, int]],
        tmp_path: Path,
    ) -> None:
        run = evaluated.copied_to(tmp_path / "copy")
        path = Path(run.trained.checkpoints[damaged].file.path)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(ChecksumError) as caught:
            run.publish(artifacts)
        assert str(path) in str(caught.value)
        assert sha256_of_bytes(bytes(content)) in str(caught.value)
        assert not has_manifest(listing())

    def test_no_credential_is_published(self, evaluated: EvaluatedRun, artifacts: str) -> None:
        published = evaluated.publish(artifacts)
        _, contents = read_back(published)
        contents["manifest.json"] = open_store(published.artifacts).get("manifest.json")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
            value = os.environ[name].encode()
            assert not [file for file, content in contents.items() if value in content], name


class TestPublishToDirectory(PublishContract):
    @pytest.fixture
    def artifacts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.setenv(name, f"the-value-of-{name}")
        return str(tmp_path / "artifacts")

    @pytest.fixture
    def listing(self, artifacts: str) -> Callable[[], dict[str, int]]:
        def find() -> dict[str, int]:
            files = [path for path in Path(artifacts).rglob("*") if not path.is_dir()]
            return {str(path.relative_to(artifacts)): path.stat().st_size for path in files}

        return find


class TestPublishToS3(PublishContract):
    @pytest.fixture
    def artifacts(self, s3_bucket: str) -> str:
        return f"s3://{s3_bucket}/some/prefix"

    @pytest.fixture
    def listing(self, s3_admin: Any, s3_bucket: str) -> Callable[[], dict[str, int]]:
        def find() -> dict[str, int]:
            entries = s3_admin.list_objects_v2(Bucket=s3_bucket).get("Contents", [])
            return {entry["Key"].removeprefix("some/prefix/"): entry["Size"] for entry in entries}

        return find

    def test_the_same_run_is_the_same_in_a_directory_and_on_s3(
        self, evaluated: EvaluatedRun, artifacts: str, tmp_path: Path
    ) -> None:
        on_s3, files_on_s3 = read_back(evaluated.publish(artifacts))
        here, files_here = read_back(evaluated.publish(str(tmp_path / "artifacts")))
        written = {
            name: point.file.sha256 for name, point in zip(CHECKPOINTS, evaluated.trained.checkpoints, strict=True)
        }
        for manifest in (on_s3, here):
            assert {name: manifest["files"][name]["sha256"] for name in CHECKPOINTS} == written
        assert files_on_s3 == files_here
        assert on_s3["config"].pop("artifacts") != here["config"].pop("artifacts")
        assert on_s3.pop("checksum") != here.pop("checksum")
        assert on_s3 == here


# ---------------------------------------------------------------------------------------------------------------------
# what is published


@pytest.mark.parametrize("lost", [None, "manifest.json", "report.html", "checkpoints/step-0000025.safetensors"])
def test_a_resumed_run_repeats_its_publication_with_the_same_bytes(
    lost: str | None, sample_raw: RawDataset, sample: CachedDataset
) -> None:
    """The run is started with defaults, `auto` and a relative address; the journal keeps their values."""
    started = RunConfig(steps=50, checkpoint_every=25, data_dir="data", artifacts="artifacts")
    trained = train_run(started, sample)
    first = publish_run(started, sample_raw, sample, trained, evaluate_run(sample, trained))
    if lost is not None:
        (Path(trained.directory) / lost).unlink()
    resumed = load_resumable_run(trained.run_id, RunConfig(data_dir=str(Path("data").absolute())), {}).config
    assert (resumed.dataset, resumed.artifacts) == ("mnist-sample", str(Path("artifacts").absolute()))
    again = train_run(resumed, sample, trained.run_id)
    assert publish_run(resumed, sample_raw, sample, again, evaluate_run(sample, again)) == first
    assert json.loads(Path(first.manifest).read_text())["config"]["dataset"] == "auto"


def test_if_a_file_disappears_during_publication_no_manifest_is_put(
    evaluated: EvaluatedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = LocalStore.put

    def remove_after(self: LocalStore, key: str, source: Path | bytes, sha256: str) -> None:
        put(self, key, source, sha256)
        if key.endswith(CHECKPOINTS[0]):
            self.delete(key)

    monkeypatch.setattr(LocalStore, "put", remove_after)
    with pytest.raises(StoreError, match=f"{CHECKPOINTS[0]} is missing although it was put"):
        evaluated.publish(str(tmp_path / "artifacts"))
    assert list((tmp_path / "artifacts").rglob("manifest.json")) == []


@pytest.fixture
def published(evaluated: EvaluatedRun, tmp_path: Path) -> PublishedRun:
    return evaluated.publish(str(tmp_path / "artifacts"))


def test_the_model_is_the_last_checkpoint_and_the_checkpoints_differ(published: PublishedRun) -> None:
    _, contents = read_back(published)
    assert contents["model.safetensors"] == contents[CHECKPOINTS[-1]]
    assert len({contents[name] for name in CHECKPOINTS}) == len(CHECKPOINTS)


def test_without_the_package_onnx_every_other_file_is_the_same(
    evaluated: EvaluatedRun, published: PublishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluated.copied_to(tmp_path / "copy")
    for name in ("manifest.json", "model.onnx"):
        Path(run.trained.directory, name).unlink()
    monkeypatch.setitem(sys.modules, "onnx", None)
    manifest, contents = read_back(run.publish(str(tmp_path / "without")))
    before, contents_before = read_back(published)
    assert contents == {name: content for name, content in contents_before.items() if name != "model.onnx"}
    del before["files"]["model.onnx"]
    for each in (before, manifest):
        del each["checksum"], each["config"]["artifacts"]
    assert manifest == before


def test_a_model_whose_onnx_file_computes_something_else_is_published_without_it(
    evaluated: EvaluatedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = evaluated.copied_to(tmp_path / "copy")
    for name in ("manifest.json", "model.onnx"):
        Path(run.trained.directory, name).unlink(missing_ok=True)
    monkeypatch.setattr("mnist_bp.registry.export.run_onnx", lambda content, images: np.full((len(images), 10), 0.5))
    _, contents = read_back(run.publish(str(tmp_path / "artifacts")))
    assert "model.onnx" not in contents
    assert re.search(r"published without model\.onnx: the exported model computes outputs that differ", caplog.text)


def test_accuracy_and_loss_in_the_manifest_are_those_of_the_published_checkpoints(
    published: PublishedRun, sample: CachedDataset
) -> None:
    manifest, contents = read_back(published)
    images, labels = load_split(sample.test)
    assert [point["file"] for point in manifest["checkpoints"]] == CHECKPOINTS
    assert [point["step"] for point in manifest["checkpoints"]] == [100, 200, 300]
    for point in manifest["checkpoints"]:
        accuracy, loss = scores_of(contents[point["file"]], images, labels)
        assert point["accuracy"] == pytest.approx(accuracy, abs=1.5 / len(labels))  # one tie may fall either way
        assert point["loss"] == pytest.approx(loss, rel=1e-4)
        assert np.mean(point["accuracy_per_class"]) == pytest.approx(point["accuracy"], abs=1e-9)  # 100 of each class
    confusion = np.array(manifest["confusion"])
    assert confusion.sum(1).tolist() == [100] * 10
    assert confusion.trace() / len(labels) == manifest["checkpoints"][-1]["accuracy"] > 0.4


def test_scores_and_times_in_the_manifest_are_those_measured(published: PublishedRun, evaluated: EvaluatedRun) -> None:
    manifest, _ = read_back(published)
    for point, score, checkpoint in zip(
        manifest["checkpoints"], evaluated.evaluation.checkpoints, evaluated.trained.checkpoints, strict=True
    ):
        assert point["step"] == score.step == checkpoint.step
        assert point["accuracy"] == score.accuracy
        assert point["lab_correct_of_1000"] == score.lab_correct_of_1000
        assert point["loss"] == score.loss
        assert point["accuracy_per_class"] == list(score.accuracy_per_class)
        assert point["train_seconds"] == checkpoint.seconds
    assert manifest["train_seconds"] == evaluated.trained.seconds > 0
    assert manifest["steps_per_second"] == pytest.approx(300 / evaluated.trained.seconds)
    assert (manifest["engine"], manifest["device"]) == (evaluated.trained.engine, evaluated.trained.device)


def test_the_manifest_describes_configuration_data_and_code(published: PublishedRun, evaluated: EvaluatedRun) -> None:
    manifest, _ = read_back(published)
    config = RunConfig.model_validate(manifest["config"])
    assert config.training_record == evaluated.config.training_record
    assert manifest["config"]["artifacts"] == str(Path(published.artifacts).parents[1])
    dataset = manifest["dataset"]
    assert (dataset["name"], dataset["key"], dataset["notice"]) == ("mnist-sample", evaluated.data.key, None)
    assert (dataset["train_examples"], dataset["test_examples"]) == (4_000, 1_000)
    proofs = {Path(file.path).name: {"sha256": file.sha256, "size": file.size} for file in evaluated.raw.files}
    assert dataset["sources"] == proofs
    for split, file in (("train", evaluated.data.train), ("test", evaluated.data.test)):
        content = Path(file.path).read_bytes()
        assert dataset["parquet"][split] == {"sha256": sha256_of_bytes(content), "size": len(content)}
    assert manifest["code"] == {"version": mnist_bp.__version__, "sha256": code_sha256()}
    assert manifest["created"] == created_at(evaluated.trained.run_id).isoformat()


def test_the_history_has_one_row_per_checkpoint_with_its_scores(
    published: PublishedRun, evaluated: EvaluatedRun
) -> None:
    _, contents = read_back(published)
    rows = pq.read_table(io.BytesIO(contents["history.parquet"])).to_pylist()
    about = {
        "run_id": evaluated.trained.run_id,
        "created": created_at(evaluated.trained.run_id),
        "dataset": "mnist-sample",
        "engine": evaluated.trained.engine,
        "recipe": "lab",
        "seed": 1,
    }
    about |= {"learning_rate": 0.5, "hidden": 30, "batch_size": 10, "initial": "normal", "activation": "sigmoid"}
    about |= {"loss_function": "squared_error", "schedule": "constant", "shift": 0, "bias_gradient": "mean"}
    assert rows == [
        {
            **about,
            "validation_accuracy": None,
            "train_seconds": checkpoint.seconds,
            "step": score.step,
            "accuracy": score.accuracy,
            "lab_correct_of_1000": score.lab_correct_of_1000,
            "loss": score.loss,
            "accuracy_per_class": list(score.accuracy_per_class),
        }
        for score, checkpoint in zip(evaluated.evaluation.checkpoints, evaluated.trained.checkpoints, strict=True)
    ]


def test_publishing_twice_changes_nothing(evaluated: EvaluatedRun, published: PublishedRun, tmp_path: Path) -> None:
    manifest = open_store(published.artifacts).get("manifest.json")
    first = read_back(published)
    assert evaluated.publish(str(tmp_path / "artifacts")) == published
    assert read_back(published) == first
    assert open_store(published.artifacts).get("manifest.json") == manifest


def test_an_interrupted_publication_is_repeated_with_the_same_bytes_after_an_update(
    evaluated: EvaluatedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluated.copied_to(tmp_path / "data")
    first = run.publish(str(tmp_path / "artifacts"))
    Path(first.manifest).unlink()
    monkeypatch.setattr("mnist_bp.registry.manifest.code_sha256", lambda: "0" * 64)
    assert run.publish(str(tmp_path / "artifacts")) == first
    assert sha256_of_bytes(Path(first.manifest).read_bytes()) == first.manifest_sha256


@pytest.mark.parametrize("damaged", range(len(CHECKPOINTS)))
def test_a_damaged_run_gets_no_manifest_in_its_run_directory_either(
    damaged: int, evaluated: EvaluatedRun, tmp_path: Path
) -> None:
    """The data directory may also be the store: a manifest there is a published one."""
    run = evaluated.copied_to(tmp_path)
    for name in ("manifest.json", "model.safetensors", "history.parquet"):
        Path(run.trained.directory, name).unlink(missing_ok=True)  # left by a publication of the original
    path = Path(run.trained.checkpoints[damaged].file.path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChecksumError):
        run.publish(str(tmp_path))
    assert not Path(run.trained.directory, "manifest.json").exists()


def test_a_missing_checkpoint_is_reported_in_one_line_that_names_it(evaluated: EvaluatedRun, tmp_path: Path) -> None:
    run = evaluated.copied_to(tmp_path / "copy")
    missing = Path(run.trained.checkpoints[0].file.path)
    missing.unlink()
    with pytest.raises(StoreError) as caught:
        run.publish(str(tmp_path / "artifacts"))
    assert str(missing) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list((tmp_path / "artifacts").rglob("manifest.json")) == []


# ---------------------------------------------------------------------------------------------------------------------
# which code


@pytest.fixture
def package_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library's source that `code_sha256` digests."""
    copy = tmp_path / "elsewhere" / "mnist_bp"
    shutil.copytree(Path(mnist_bp.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("mnist_bp.registry.code.__file__", str(copy / "registry" / "code.py"))
    return copy


def test_the_same_code_elsewhere_has_the_same_digest(package_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = code_sha256()
    (package_copy / "__pycache__").mkdir()
    (package_copy / "__pycache__" / "publish.cpython-311.pyc").write_bytes(b"compiled")
    assert code_sha256() == elsewhere
    monkeypatch.undo()
    assert code_sha256() == elsewhere


@pytest.mark.parametrize(
    "name",
    [
        "model/backprop.py",
        "storage/s3.py",
        "__init__.py",
        "report/report.html",
        "report/report.css",
        "report/report.js",
        "report/nights.svg",
    ],
)
def test_a_changed_source_file_changes_the_digest_of_the_code(name: str, package_copy: Path) -> None:
    before = code_sha256()
    path = package_copy / name
    original = path.read_bytes()
    path.write_bytes(original + b"\n")
    assert code_sha256() != before
    path.write_bytes(original)
    assert code_sha256() == before


def test_adding_renaming_or_removing_a_source_file_changes_the_digest_of_the_code(package_copy: Path) -> None:
    digests = [code_sha256()]
    (package_copy / "extra.py").touch()
    digests.append(code_sha256())
    (package_copy / "extra.py").rename(package_copy / "extra_.py")  # which sorts as before
    digests.append(code_sha256())
    (package_copy / "extra_.py").unlink()
    (package_copy / "model" / "rng.py").unlink()
    digests.append(code_sha256())
    assert len(set(digests)) == 4
