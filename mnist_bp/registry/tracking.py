"""Tracking: a published run is logged to an MLflow server too, if `--track` asks for it.

    experiment mnist-bp
      <run id>                         found again by its tag mnist_bp.run_id
        parameters, tags                 settings; dataset, engine, digest of the code, URI of the manifest, decision
        metrics                          one point per checkpoint
        manifest.json, report.html, history.parquet
        model/model.safetensors        source of the version of the registered model
    registered model mnist-bp-<dataset>
      a version for each run           alias champion: the champion of the store

Everything is read from the store, so a run can be logged at any time after its publication, and what MLflow gets is
what was published. Points and times come from the manifest: an interrupted upload is completed by repeating it.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mnist_bp.config import PLACES, check_tracking_address, tracking_from_environment
from mnist_bp.documents.manifest import Manifest
from mnist_bp.errors import ConfigError, MnistBpError, TrackingError
from mnist_bp.layout import MANIFEST, MODEL, run_key
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.storage.interface import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT: Final = "mnist-bp"
RUN_TAG: Final = "mnist_bp.run_id"
ALIAS: Final = "champion"
"""Names in MLflow."""

FILES: Final = ("report.html", "history.parquet")
"""Published files that are logged next to the manifest and the model; checkpoints stay in the store."""

_SETTINGS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default, a server that is down holds a run up for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # that is where --json prints
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Settings of MLflow's client, unless the environment has others."""

_MAX_POINTS: Final = 1_000
_MAX_VALUE: Final = 500
"""Limits of MLflow: metrics in a request, characters of a parameter (that of its older versions)."""


@dataclass(frozen=True)
class LoggedRun:
    """A run on an MLflow server.

    Args:
        run_id: The run.
        url: Address of its page.
        model: Name of the registered model.
        version: Its version.
        champion: Whether the alias is on this version.
        existed: Whether the run had been logged before.
    """

    run_id: str
    url: str
    model: str
    version: str
    champion: bool
    existed: bool

    @property
    def outcome(self) -> str:
        """What was logged, in a few words."""
        again = ", logged before" if self.existed else ""
        return f"{self.model} version {self.version}{', champion' if self.champion else ''}{again}"


def tracking_server(given: str | None) -> str | None:
    """Return where to log runs: the given address, else `$MNIST_BP_TRACK`; None for nowhere.

    Args:
        given: `RunConfig.track`.

    Raises:
        ConfigError: The variable has no such address; or MLflow's client is not installed. It is not imported here,
            which takes seconds.
    """
    address = given or tracking_from_environment()
    if not address:
        return None
    try:
        check_tracking_address(address)
    except ValueError as exc:
        raise ConfigError(f"MNIST_BP_TRACK {address!r}: {exc}") from exc
    if find_spec("mlflow") is None:
        raise ConfigError(
            f"tracking to {address} needs MLflow's client, which is not installed: pip install mlflow-skinny, or run "
            "without --track and $MNIST_BP_TRACK"
        )
    return address


def log_run(track: str, store: Store, run_id: str) -> LoggedRun:
    """Log a published run to an MLflow server. Can be repeated: nothing is logged twice.

    Args:
        track: `mlflow:` and the address of the server; see `mnist_bp.config.TrackAddress`.
        store: Store with the run.
        run_id: Id of the run.

    Raises:
        TrackingError: The server cannot be reached, or refused.
        MnistBpError: The run cannot be read from the store.
    """
    manifest, sha256 = read_manifest(store, run_id)
    promotion = read_promotion(store, run_id)
    uri = track.removeprefix("mlflow:").rstrip("/")
    name = f"mnist-bp-{manifest.dataset.name}"
    with _errors_of(uri):
        client = _connect(uri)
        run, existed = _find_or_create(client, manifest)
        tags = _tags(manifest, store.uri(run_key(run_id, MANIFEST)), sha256, promotion.outcome if promotion else "none")
        if not existed:
            _log_figures(client, run.info.run_id, manifest)
            _log_files(client, run.info.run_id, store, manifest, sha256)
        for key, value in tags.items():
            if run.data.tags.get(key) != value:
                client.set_tag(run.info.run_id, key, value)
        version = _register(client, name, run, manifest)
        current = read_log(store, manifest.dataset.name).current
        champion = current is not None and current.run_id == run_id
        if champion:
            client.set_registered_model_alias(name, ALIAS, version)
        if not existed:  # last: a run that is finished is complete
            client.set_terminated(run.info.run_id, end_time=_milliseconds(manifest, manifest.train_seconds))
    url = f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return LoggedRun(run_id, url, name, version, champion, existed)


def _connect(uri: str) -> MlflowClient:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _errors_of(uri: str) -> Iterator[None]:
    """Turn every error of MLflow's client and of the libraries below it into one line without text of theirs."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # each retry would be a line of theirs
    try:
        yield
    except MnistBpError:
        raise
    except Exception as exc:
        code = getattr(exc, "error_code", "")
        cause = exc.__cause__ or exc.__context__
        reason = " ".join(filter(None, [type(exc).__name__, code, f"({type(cause).__name__})" if cause else ""]))
        hint = "check its address, and that it runs"
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
            hint = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise TrackingError(f"MLflow at {uri}: {reason}; {hint}") from exc
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _find_or_create(client: MlflowClient, manifest: Manifest) -> tuple[Run, bool]:
    """Return the MLflow run of a run, and whether it is complete."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        try:
            identity = client.create_experiment(EXPERIMENT)
        except MlflowException:  # another process was first
            if (experiment := client.get_experiment_by_name(EXPERIMENT)) is None:
                raise
            identity = experiment.experiment_id
    else:
        identity = experiment.experiment_id
    found = client.search_runs([identity], f"tags.`{RUN_TAG}` = '{manifest.run_id}'", max_results=1)
    if found:
        return found[0], found[0].info.status == "FINISHED"
    tags = {RUN_TAG: manifest.run_id}
    return client.create_run(identity, _milliseconds(manifest), tags, manifest.run_id), False


def _log_figures(client: MlflowClient, identity: str, manifest: Manifest) -> None:
    """Log parameters, and a point of each metric for each checkpoint."""
    from mlflow.entities import Param

    settings = {name: value for name, value in manifest.config.items() if name not in PLACES and value is not None}
    settings |= {"dataset": manifest.dataset.name, "engine": manifest.engine, "seed": manifest.seed}
    client.log_batch(identity, params=[Param(name, str(value)[:_MAX_VALUE]) for name, value in settings.items()])
    points = list(_points(manifest))
    for first in range(0, len(points), _MAX_POINTS):
        client.log_batch(identity, metrics=points[first : first + _MAX_POINTS])


def _points(manifest: Manifest) -> Iterator[Metric]:
    from mlflow.entities import Metric

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


def _log_files(client: MlflowClient, identity: str, store: Store, manifest: Manifest, sha256: str) -> None:
    """Log the published files that MLflow gets, each verified."""
    with tempfile.TemporaryDirectory(prefix="mnist-bp-") as name:
        directory = Path(name)
        (directory / "model").mkdir()
        (directory / MANIFEST).write_bytes(store.get(run_key(manifest.run_id, MANIFEST), sha256))
        for file, place in [*((file, file) for file in FILES), (MODEL, f"model/{MODEL}")]:
            entry = manifest.files[file]
            content = store.get(run_key(manifest.run_id, file), entry.sha256, entry.size)
            (directory / place).write_bytes(content)
        client.log_artifacts(identity, name)


def _tags(manifest: Manifest, uri: str, sha256: str, outcome: str) -> Mapping[str, str]:
    return {
        "mnist_bp.dataset": manifest.dataset.name,
        "mnist_bp.engine": manifest.engine,
        "mnist_bp.code_sha256": manifest.code.sha256,
        "mnist_bp.manifest": uri,
        "mnist_bp.manifest_sha256": sha256,
        "mnist_bp.promotion": outcome,
    }


def _register(client: MlflowClient, name: str, run: Run, manifest: Manifest) -> str:
    """Return the run's version of the registered model; create both if they are missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    identity = run.info.run_id
    found: Sequence[ModelVersion] = client.search_model_versions(f"name = '{name}' and run_id = '{identity}'")
    for version in found:
        return str(version.version)
    source = f"{run.info.artifact_uri}/model"
    tags = {RUN_TAG: manifest.run_id}
    return str(client.create_model_version(name, source, identity, tags=tags, await_creation_for=0).version)
