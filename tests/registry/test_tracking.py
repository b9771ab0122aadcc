"""Tracking, on MLflow's own server with SQLite: what is logged, once; the alias; and what happens without a server."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mnist_bp.cli.main import main
from mnist_bp.errors import ChecksumError, StoreError, TrackingError
from mnist_bp.layout import run_key
from mnist_bp.registry import mlflow_records
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.tracking import log_run
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.reading import sha256_of_bytes
from tests.conftest import SMALL
from tests.support.bad_http import BadHttp, status
from tests.support.mlflow_server import mlflow_server
from tests.support.published_runs import promote, publish, put_promotion
from tests.support.s3_servers import free_endpoint
from tests.support.scripts import Start
from tests.support.waiting import HANG_S

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server for all tests of this file; no two tests log the same run."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


@pytest.fixture
def client(url: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(url, url)


def logged_runs(client: MlflowClient, run_id: str) -> list[Run]:
    experiment = client.get_experiment_by_name("mnist-bp")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`mnist_bp.run_id` = '{run_id}'"))


def everything_logged(client: MlflowClient, run_id: str) -> dict[str, object]:
    """Return all that a server has of a run, for a comparison."""
    (run,) = logged_runs(client, run_id)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {
        "about": (run.info.run_id, run.info.status, run.info.start_time, run.info.end_time),
        "params": run.data.params,
        "tags": run.data.tags,
        "points": {name: [(p.step, p.timestamp, p.value) for p in points] for name, points in history.items()},
        "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        "versions": [v.version for v in client.search_model_versions(f"run_id = '{run.info.run_id}'")],
    }


def champion_run(client: MlflowClient, dataset: str) -> str:
    """Return the run whose model has the alias."""
    return client.get_model_version_by_alias(f"mnist-bp-{dataset}", "champion").tags["mnist_bp.run_id"]


def test_a_run_of_the_script_is_logged_with_its_figures_and_the_published_bytes(
    url: str,
    client: MlflowClient,
    start_alone: Start,
    warm_caches: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = start_alone(*SMALL, "--track", f"mlflow:{url}", "--json")
    out, err = script.communicate(timeout=HANG_S)
    assert script.returncode == 0, err
    summary = json.loads(out)
    run_id = summary["run_id"]
    (run,) = logged_runs(client, run_id)
    assert f"track       mnist-bp-mnist-sample version 1, champion: {url}/#/experiments/" in err
    assert run.info.status == "FINISHED"
    for name in ("accuracy", "loss"):
        found = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert found == [(point["step"], point[name]) for point in summary["checkpoints"]]
        assert len(found) == 2
    store = LocalStore(tmp_path / "artifacts")
    manifest, sha256 = read_manifest(store, run_id)
    assert manifest.config.keys() >= {"steps", "artifacts"}
    assert "track" not in manifest.config
    assert run.data.params == {
        name: str(value)
        for name, value in {**manifest.config, "engine": "cpu"}.items()
        if value is not None and name != "artifacts"
    }
    expected = {
        "run_id": run_id,
        "dataset": "mnist-sample",
        "engine": "cpu",
        "code_sha256": manifest.code.sha256,
        "manifest": summary["manifest"],
        "manifest_sha256": sha256,
        "promotion": "promoted",
    }
    assert {name: run.data.tags[f"mnist_bp.{name}"] for name in expected} == expected
    digests = {name: manifest.files[name].sha256 for name in ("model.safetensors", "history.parquet", "report.html")}
    assert digests == {name: digest(tmp_path / "artifacts" / "runs" / run_id / name) for name in digests}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    model = digests.pop("model.safetensors")
    assert downloaded(f"runs:/{run.info.run_id}/", tmp_path / "run") == {
        **digests,
        "manifest.json": sha256,
        "model/model.safetensors": model,
    }
    assert downloaded("models:/mnist-bp-mnist-sample@champion", tmp_path / "model") == {"model.safetensors": model}
    assert champion_run(client, "mnist-sample") == run_id


def downloaded(uri: str, directory: Path) -> dict[str, str]:
    """Download with MLflow, and return the digest of each file by its name."""
    from mlflow.artifacts import download_artifacts

    directory.mkdir()
    root = Path(download_artifacts(artifact_uri=uri, dst_path=str(directory)))
    return {path.relative_to(root).as_posix(): digest(path) for path in root.rglob("*") if path.is_file()}


def digest(path: Path) -> str:
    return sha256_of_bytes(path.read_bytes())


def test_a_run_that_is_logged_again_is_logged_once(url: str, client: MlflowClient, store: LocalStore) -> None:
    run_id = published(store, 1, "fashion-mnist")
    first = log_run(f"mlflow:{url}", store, run_id)
    before = everything_logged(client, run_id)
    again = log_run(f"mlflow:{url}/", store, run_id)
    assert (first.existed, again.existed) == (False, True)
    assert again.url == first.url
    assert everything_logged(client, run_id) == before
    assert [len(points) for points in before["points"].values()] == [2] * 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("interrupted", ["log_figures", "log_files", "register_model"])
def test_an_interrupted_upload_is_completed_and_logs_nothing_twice(
    interrupted: str, url: str, client: MlflowClient, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = published(store, 10 + len(interrupted), "kmnist")
    done = getattr(mlflow_records, interrupted)

    def interrupt(*arguments: object) -> None:
        done(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(mlflow_records, interrupted, interrupt)
    with pytest.raises(KeyboardInterrupt):
        log_run(f"mlflow:{url}", store, run_id)
    monkeypatch.undo()
    (run,) = logged_runs(client, run_id)
    assert run.info.status == "RUNNING"
    log_run(f"mlflow:{url}", store, run_id)
    completed = everything_logged(client, run_id)
    assert completed["about"][1] == "FINISHED"  # type: ignore[index]
    assert [len(points) for points in completed["points"].values()] == [2] * 4  # type: ignore[attr-defined]
    assert completed["files"] == ["history.parquet", "manifest.json", "model", "report.html"]
    assert len(completed["versions"]) == 1  # type: ignore[arg-type]


def test_the_alias_moves_to_a_champion_and_only_then(url: str, client: MlflowClient, store: LocalStore) -> None:
    first, worse, better = (published(store, number, "mnist", promoted=False) for number in (1, 2, 3))
    promote(store, first)
    for run_id in (first, worse):
        assert log_run(f"mlflow:{url}", store, run_id).champion == (run_id == first)
        assert champion_run(client, "mnist") == first
    promote(store, better)
    assert log_run(f"mlflow:{url}", store, better).champion
    assert champion_run(client, "mnist") == better
    assert not log_run(f"mlflow:{url}", store, first).champion  # logged again after it was replaced
    assert champion_run(client, "mnist") == better
    promote(store, first, action="rollback")
    assert champion_run(client, "mnist") == better
    assert main(["track", "--all", "--track", f"mlflow:{url}"]) == 0
    assert champion_run(client, "mnist") == first


def published(store: Store, number: int, dataset: str, *, promoted: bool = True) -> str:
    run_id = publish(store, number, dataset)
    if promoted:
        promote(store, run_id, dataset)
    put_promotion(store, run_id, dataset)
    return run_id


def test_a_server_that_is_down_costs_one_warning_and_the_command_in_it_logs_the_run_later(
    url: str, client: MlflowClient, warm_caches: None, capsys: pytest.CaptureFixture[str]
) -> None:
    down = f"mlflow:{free_endpoint()}"
    ended = run([sys.executable, "-m", "mnist_bp", "train", *SMALL, "--seed", "7", "--track", down, "--json"])
    assert ended.returncode == 0
    run_id = json.loads(ended.stdout)["run_id"]
    lines = [line for line in ended.stderr.splitlines() if not re.match("train       (compiling|certifying) ", line)]
    assert [line.split()[0] for line in lines] == [
        "download", "preprocess", *["train"] * 4, *["evaluate"] * 2, "upload", "promote", "the"
    ]  # fmt: skip
    warning, _, command = ended.stderr.splitlines()[-1].partition("; to log it later: mnist-bp ")
    assert warning.startswith(f"the run is published, but not logged: MLflow at {down[7:]}: ")
    assert main([part.replace(down, f"mlflow:{url}") for part in shlex.split(command)]) == 0
    assert capsys.readouterr().out.startswith(f"{run_id}  mnist-bp-mnist-sample version ")
    assert len(logged_runs(client, run_id)) == 1


def test_a_published_run_is_logged_when_it_is_resumed(
    url: str,
    client: MlflowClient,
    warm_caches: None,
    own_signals: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["train", *SMALL, "--seed", "8", "--json"]) == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    assert main(["train", "--resume", run_id, "--track", f"mlflow:{url}"]) == 0
    monkeypatch.setenv("MNIST_BP_TRACK", f"mlflow:{url}")
    assert main(["train", "--resume", run_id]) == 0
    assert len(logged_runs(client, run_id)) == 1


def test_the_retries_of_a_server_that_is_down_are_not_logged(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prefect's console shows the warnings of every library."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(TrackingError):
        log_run(f"mlflow:{free_endpoint()}", store, published(store, 1, "mnist"))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("code", "name", "hint"),
    [(401, "UNAUTHENTICATED", "MLFLOW_TRACKING_PASSWORD"), (403, "PERMISSION_DENIED", "TOKEN")],
)
def test_a_server_that_refuses_is_one_line_that_names_the_credentials(
    code: int, name: str, hint: str, store: LocalStore
) -> None:
    run_id = published(store, 1, "mnist")
    with BadHttp({}) as server:
        server.faults["get-by-name?experiment_name=mnist-bp"] = [status(code)] * 9
        with pytest.raises(TrackingError) as caught:
            log_run(f"mlflow:{server.url}", store, run_id)
    assert re.search(rf"{name}.*{hint}", str(caught.value))


@pytest.mark.parametrize("damage", [None, b"other bytes"], ids=["missing", "damaged"])
def test_a_file_that_is_not_as_it_was_published_is_not_logged(
    damage: bytes | None, url: str, client: MlflowClient, store: LocalStore
) -> None:
    run_id = published(store, 40 if damage else 41, "mnist")
    store.delete(key := run_key(run_id, "report.html"))
    if damage:
        store.put(key, damage, sha256_of_bytes(damage))
    with pytest.raises(ChecksumError if damage else StoreError, match=r"report\.html"):
        log_run(f"mlflow:{url}", store, run_id)
    (run,) = logged_runs(client, run_id)
    assert client.list_artifacts(run.info.run_id) == []
    assert run.info.status == "RUNNING"


def test_a_temporary_directory_that_cannot_be_written_to_is_one_line(
    url: str, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = published(store, 50, "mnist")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "removed"))
    with pytest.raises(TrackingError) as caught:
        log_run(f"mlflow:{url}", store, run_id)
    assert str(caught.value) == "temporary files for MLflow: No such file or directory"


WITHOUT_MLFLOW = """
import sys
from importlib.abc import MetaPathFinder
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "mlflow" else found(name, package)
from mnist_bp.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_the_client_one_line_says_what_to_install_before_anything_starts(tmp_path: Path) -> None:
    ended = run([sys.executable, "-c", WITHOUT_MLFLOW, "train", *SMALL, "--track", "mlflow:http://127.0.0.1:1"])
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line == (
        "error: tracking to mlflow:http://127.0.0.1:1 needs MLflow's client, which is not installed: "
        "pip install mlflow-skinny, or run without --track and $MNIST_BP_TRACK"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["mlflow:http://user:canary@host:5000", "mlflow:ftp://host", "http://host:5000"])
@pytest.mark.parametrize("given", ["flag", "variable"])
def test_a_malformed_address_is_one_line_without_its_secrets(
    given: str,
    address: str,
    own_signals: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = ["--track", address] if given == "flag" else []
    monkeypatch.setenv("MNIST_BP_TRACK", "" if flags else address)
    try:
        code: object = main(["train", *SMALL, *flags])
    except SystemExit as exc:  # as for every flag
        code = exc.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected mlflow:http://HOST:PORT" in line
    assert "canary" not in line
    assert ("MLFLOW_TRACKING_PASSWORD" in line) == ("canary" in address)
    assert list(tmp_path.iterdir()) == []


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=HANG_S, env={**os.environ, **variables}, check=False
    )
