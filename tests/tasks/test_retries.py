"""Which failures are retried, and what is logged about them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from mnist_bp.errors import (
    ChecksumError,
    ConfigError,
    DivergenceError,
    DownloadError,
    FailureKind,
    MirrorFailure,
    StoreError,
)
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.retries import RETRIES, is_last_attempt, is_transport_fault
from tasks.train import train_network
from tasks.upload import upload


def is_retried(error: Exception) -> bool:
    run = TaskRun(task_key="download", dynamic_key="0", flow_run_id=uuid4(), run_count=2)
    return is_transport_fault(download, run, Failed(data=error))


def download_error(*kinds: FailureKind) -> DownloadError:
    return DownloadError("mnist: a file", [MirrorFailure("http://mirror/", kind, "why") for kind in kinds], "Do this")


@pytest.mark.parametrize(
    "error",
    [
        StoreError("overloaded", transient=True),
        download_error("unreachable"),
        download_error("interrupted"),
        download_error("corrupt", "refused", "interrupted"),
    ],
)
def test_transport_faults_are_retried_and_logged_with_the_attempt(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert is_retried(error)
    assert caplog.messages == [f"download: attempt 2 of {RETRIES + 1} failed: {error}"]


@pytest.mark.parametrize(
    "error",
    [
        StoreError("no such bucket"),
        download_error("refused"),
        download_error("corrupt", "corrupt"),
        ChecksumError("damaged"),
        ConfigError("bad"),
        DivergenceError("diverged"),
        ValueError("a bug"),
    ],
)
def test_deterministic_failures_are_not_retried_and_not_logged_twice(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert not is_retried(error)
    assert caplog.messages == []


def test_downloads_are_retried_after_transport_faults_and_training_once_after_a_crash() -> None:
    """Requests to a store have their retries in the storage room."""
    tasks = (download, preprocess, train_network, evaluate, upload, promote)
    assert [task.retries for task in tasks] == [RETRIES, 0, 1, 0, 0, 0]


def test_waits_grow_and_are_jittered() -> None:
    assert download.retry_delay_seconds == [1, 2, 4]
    assert download.retry_jitter_factor == 0.5


def test_outside_a_task_run_every_attempt_is_the_last() -> None:
    assert is_last_attempt()
