"""What is worth a second attempt, and what is said about it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed
from rich.console import Console

from mnist_bp.cli.console import Terminal
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
from tasks.retries import RETRIES, is_last_attempt, worth_retrying
from tasks.train import train_network
from tasks.ui import show_on
from tasks.upload import upload


@pytest.fixture
def shown() -> Iterator[io.StringIO]:
    text = io.StringIO()
    show_on(Terminal(Console(file=text, width=200)))
    yield text
    show_on(Terminal())


def is_retried(error: Exception) -> bool:
    run = TaskRun(task_key="download", dynamic_key="0", flow_run_id=uuid4(), run_count=2)
    return worth_retrying(download, run, Failed(data=error))


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
def test_transport_faults_are_retried_and_shown_with_the_attempt(error: Exception, shown: io.StringIO) -> None:
    assert is_retried(error)
    assert shown.getvalue() == f"download: attempt 2 of {RETRIES + 1} failed: {error}\n"


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
def test_what_is_deterministic_is_not_retried_and_not_shown_twice(error: Exception, shown: io.StringIO) -> None:
    assert not is_retried(error)
    assert shown.getvalue() == ""


def test_only_downloads_are_retried_for_their_transport_and_training_once_for_a_crash() -> None:
    """What speaks to a store has its retries there."""
    tasks = (download, preprocess, train_network, evaluate, upload, promote)
    assert [task.retries for task in tasks] == [RETRIES, 0, 1, 0, 0, 0]


def test_waits_grow_and_are_jittered() -> None:
    assert download.retry_delay_seconds == [1, 2, 4]
    assert download.retry_jitter_factor == 0.5


def test_outside_a_task_run_every_attempt_is_the_last() -> None:
    assert is_last_attempt()
