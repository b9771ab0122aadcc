"""Gauges of the last finished run of each dataset, for Prometheus: a file that node_exporter reads.

    <$MNIST_BP_METRICS>/mnist_bp_<dataset>.prom

One file per dataset, replaced as a whole, so that runs of several datasets do not overwrite each other's gauges.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from mnist_bp.storage.address import clean_address

logger = logging.getLogger(__name__)

Given = ParamSpec("Given")
Result = TypeVar("Result")

DIRECTORY_VARIABLE: Final = "MNIST_BP_METRICS"

_stage_seconds: Final[dict[str, float]] = {}
"""Duration of the last call of each stage in this process, by the stage's name."""


def timed(stage: Callable[Given, Result]) -> Callable[Given, Result]:
    """Measure each call of a stage that does not fail; a decorator."""

    @wraps(stage)
    def measured(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        begin = time.perf_counter()
        result = stage(*args, **kwargs)
        _stage_seconds[stage.__name__] = time.perf_counter() - begin
        return result

    return measured


def export_metrics(dataset: str, *, accuracy: float, promoted: bool, published_bytes: int) -> None:
    """Write the gauges of the run that has just finished to `$MNIST_BP_METRICS`, if it is set.

    A failure is a warning: the run is published.

    Args:
        dataset: Name of the dataset.
        accuracy: Share of the test images that are classified correctly, in [0, 1].
        promoted: Whether the run became champion.
        published_bytes: Size of the published files.
    """
    if not (directory := clean_address(os.environ.get(DIRECTORY_VARIABLE, ""))):
        return
    gauges = {
        "accuracy": (accuracy, "Share of the test images that the last finished run classifies correctly."),
        "promoted": (float(promoted), "Whether the last finished run became champion (1) or not (0)."),
        "published_bytes": (published_bytes, "Size of the published files of the last finished run."),
        "finished_timestamp_seconds": (time.time(), "End of the last finished run, in seconds since 1970."),
    }
    try:
        _write(Path(directory) / f"mnist_bp_{dataset}.prom", dataset, gauges)
        _stage_seconds.clear()  # a later run of this process may leave out stages
    except OSError as exc:
        problem = f"{directory} (${DIRECTORY_VARIABLE}): {exc.strerror or type(exc).__name__}"
        logger.warning(f"the run is published, but its metrics were not written: {problem}")


def _write(path: Path, dataset: str, gauges: Mapping[str, tuple[float, str]]) -> None:
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile  # 0.3 s, only if it is asked for

    registry = CollectorRegistry()
    for name, (value, text) in gauges.items():
        Gauge(f"mnist_bp_{name}", text, ["dataset"], registry=registry).labels(dataset).set(value)
    duration = "Duration of each stage of the last finished run, in the process that finished it."
    stages = Gauge("mnist_bp_stage_seconds", duration, ["dataset", "stage"], registry=registry)
    for stage, seconds in _stage_seconds.items():
        stages.labels(dataset, stage).set(seconds)
    write_to_textfile(str(path), registry)  # to a temporary name first, and readable for other users
