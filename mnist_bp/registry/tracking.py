"""Tracking: a published run is logged to an MLflow server too, if `--track` asks for it; see `mlflow_records`.

Everything is read from the store, so a run can be logged at any time after its publication, and what MLflow gets is
what was published. The alias `champion` is set on the run that is the champion of the store when it is logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from mnist_bp.errors import ConfigError, TrackingError
from mnist_bp.layout import MANIFEST, run_key
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.champion import read_log
from mnist_bp.registry.promotion_record import read_promotion
from mnist_bp.storage.interface import Store
from mnist_bp.storage.places import check_tracking_address, tracking_from_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS: Final = "champion"

_SETTINGS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default, a server that is down holds a run up for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # that is where --json prints
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Settings of MLflow's client, unless the environment has others."""

_UNAUTHORIZED: Final = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")


@dataclass(frozen=True)
class LoggedRun:
    """A run on an MLflow server.

    Args:
        run_id: The run.
        url: Address of its page.
        model: Name of the registered model.
        version: Its version.
        champion: Whether it is the champion, so that the alias is on this version.
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
        track: `mlflow:` and the address of the server; see `mnist_bp.storage.places.TrackAddress`.
        store: Store with the run.
        run_id: Id of the run.

    Raises:
        TrackingError: The server cannot be reached, or refused.
        MnistBpError: The run cannot be read from the store.
    """
    manifest, sha256 = read_manifest(store, run_id)
    promotion = read_promotion(store, run_id)
    uri = track.removeprefix("mlflow:").rstrip("/")
    with _errors_of(uri):
        client = _connect(uri)
        from mnist_bp.registry import mlflow_records as records

        run = records.find_or_create_run(client, manifest)
        existed = run.info.status == "FINISHED"
        if not existed:
            records.log_figures(client, run, manifest)
            records.log_files(client, run, store, manifest, sha256)
        outcome = promotion.outcome if promotion else "none"
        records.set_tags(client, run, manifest, store.uri(run_key(run_id, MANIFEST)), sha256, outcome)
        version, model = records.register_model(client, run, manifest), records.model_name(manifest)
        current = read_log(store, manifest.dataset.name).current
        if champion := current is not None and current.run_id == run_id:
            client.set_registered_model_alias(model, ALIAS, version)
        if not existed:
            records.finish_run(client, run, manifest)
    url = f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return LoggedRun(run_id, url, model, version, champion, existed)


def _connect(uri: str) -> MlflowClient:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _errors_of(uri: str) -> Iterator[None]:
    """Turn every error of MLflow's client and of the libraries below it into one line without text of theirs."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    loggers = [logging.getLogger(name) for name in ("mlflow", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # each retry would be a line of theirs
    try:
        yield
    except (MlflowException, RequestException) as exc:
        code, cause = getattr(exc, "error_code", ""), exc.__cause__ or exc.__context__
        reason = " ".join(filter(None, [type(exc).__name__, code, f"({type(cause).__name__})" if cause else ""]))
        hint = "check its address, and that it runs"
        if code in _UNAUTHORIZED:
            hint = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise TrackingError(f"MLflow at {uri}: {reason}; {hint}") from exc
    except OSError as exc:
        raise TrackingError(f"temporary files for MLflow: {exc.strerror or type(exc).__name__}") from exc
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
