"""What MLflow has of a published run, created piece by piece: each step can be repeated and creates nothing twice.

    experiment mnist-bp
      <run id>                         found again by its tag mnist_bp.run_id
        parameters, tags                 settings; dataset, engine, digest of the code, URI of the manifest, decision
        metrics                          one point per checkpoint
        manifest.json, report.html, history.parquet
        model/model.safetensors        source of the version of the registered model
    registered model mnist-bp-<dataset>
      a version for each run

Points and times come from the manifest, so MLflow recognizes a point that it already has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from mnist_bp.config import PLACES
from mnist_bp.documents.manifest import Manifest
from mnist_bp.layout import MANIFEST, MODEL, run_key
from mnist_bp.storage.interface import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT: Final = "mnist-bp"
RUN_TAG: Final = "mnist_bp.run_id"

FILES: Final = ("report.html", "history.parquet")
"""Published files that are logged next to the manifest and the model; checkpoints stay in the store."""

_MAX_POINTS: Final = 1_000
"""Metrics in one request, by a limit of MLflow."""

_MAX_VALUE: Final = 500
"""Characters of a parameter, by a limit of MLflow's older versions."""


def model_name(manifest: Manifest) -> str:
    """Return the name of the registered model of a run's dataset."""
    return f"mnist-bp-{manifest.dataset.name}"


def find_or_create_run(client: MlflowClient, manifest: Manifest) -> Run:
    """Return the MLflow run of a run; its status is FINISHED if it is complete."""
    experiment = _find_or_create_experiment(client)
    if found := client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{manifest.run_id}'", max_results=1):
        return found[0]
    return client.create_run(experiment, _milliseconds(manifest), {RUN_TAG: manifest.run_id}, manifest.run_id)


def _find_or_create_experiment(client: MlflowClient) -> str:
    if (experiment := client.get_experiment_by_name(EXPERIMENT)) is None:
        try:
            return client.create_experiment(EXPERIMENT)
        except MlflowException:  # another process was first
            if (experiment := client.get_experiment_by_name(EXPERIMENT)) is None:
                raise
    return str(experiment.experiment_id)


def log_figures(client: MlflowClient, run: Run, manifest: Manifest) -> None:
    """Log parameters, and a point of each metric for each checkpoint."""
    settings = {name: value for name, value in manifest.config.items() if name not in PLACES and value is not None}
    settings |= {"dataset": manifest.dataset.name, "engine": manifest.engine, "seed": manifest.seed}
    parameters = [Param(name, str(value)[:_MAX_VALUE]) for name, value in settings.items()]
    client.log_batch(run.info.run_id, params=parameters)
    points = list(_points(manifest))
    for first in range(0, len(points), _MAX_POINTS):
        client.log_batch(run.info.run_id, metrics=points[first : first + _MAX_POINTS])


def _points(manifest: Manifest) -> Iterator[Metric]:
    for point in manifest.checkpoints:
        figures = {
            "accuracy": point.accuracy,
            "validation_accuracy": point.validation_accuracy,
            "loss": point.loss,
            "lab_correct_of_1000": point.lab_correct_of_1000,
            "train_seconds": point.train_seconds,
        }
        for name, value in figures.items():
            if value is not None:
                yield Metric(name, float(value), _milliseconds(manifest, point.train_seconds), point.step)


def _milliseconds(manifest: Manifest, seconds: float = 0.0) -> int:
    """Return a time after the start of a run, in milliseconds since 1970."""
    return round(1_000 * (manifest.created.timestamp() + seconds))


def log_files(client: MlflowClient, run: Run, store: Store, manifest: Manifest, sha256: str) -> None:
    """Log published files, each verified as it is read from the store.

    Args:
        client: The server.
        run: The MLflow run.
        store: Store with the run.
        manifest: Its manifest.
        sha256: Digest of the manifest.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-bp-") as name:
        directory = Path(name)
        (directory / "model").mkdir()
        (directory / MANIFEST).write_bytes(store.get(run_key(manifest.run_id, MANIFEST), sha256))
        for file, place in [*((file, file) for file in FILES), (MODEL, f"model/{MODEL}")]:
            entry = manifest.files[file]
            content = store.get(run_key(manifest.run_id, file), entry.sha256, entry.size)
            (directory / place).write_bytes(content)
        client.log_artifacts(run.info.run_id, name)


def set_tags(client: MlflowClient, run: Run, manifest: Manifest, uri: str, sha256: str, outcome: str) -> None:
    """Set tags as far as they differ: the decision may have been made since the run was logged.

    Args:
        client: The server.
        run: The MLflow run.
        manifest: The manifest of the run.
        uri: Address of the manifest.
        sha256: Digest of the manifest.
        outcome: Decision about the run.
    """
    tags = {
        "mnist_bp.dataset": manifest.dataset.name,
        "mnist_bp.engine": manifest.engine,
        "mnist_bp.code_sha256": manifest.code.sha256,
        "mnist_bp.manifest": uri,
        "mnist_bp.manifest_sha256": sha256,
        "mnist_bp.promotion": outcome,
    }
    for name, value in tags.items():
        if run.data.tags.get(name) != value:
            client.set_tag(run.info.run_id, name, value)


def register_model(client: MlflowClient, run: Run, manifest: Manifest) -> str:
    """Return the run's version of the registered model of its dataset; create both if they are missing."""
    name, identity = model_name(manifest), run.info.run_id
    try:
        client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found: Sequence[ModelVersion] = client.search_model_versions(f"name = '{name}' and run_id = '{identity}'")
    for version in found:
        return str(version.version)
    source, tags = f"{run.info.artifact_uri}/model", {RUN_TAG: manifest.run_id}
    return str(client.create_model_version(name, source, identity, tags=tags, await_creation_for=0).version)


def finish_run(client: MlflowClient, run: Run, manifest: Manifest) -> None:
    """Mark a run as complete, after everything else."""
    client.set_terminated(run.info.run_id, end_time=_milliseconds(manifest, manifest.train_seconds))
