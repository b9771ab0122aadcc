"""One Prefect server for all tests of flows."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from mnist_bp.records import CachedDataset, RawDataset
from tasks import reporting
from tests.conftest import data_dir_of

SCRIPT = Path(__file__).parents[2] / "flows" / "train.py"


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server with a database of its own, for the session."""
    with prefect_test_harness(server_startup_timeout=100):
        yield


@pytest.fixture
def terminal(prefect_server: None) -> Iterator[None]:
    """For tests that call a script's main: its terminal and its signal handlers are let go afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    reporting.show_on(None)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def warm_caches(sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path) -> None:
    """The bundled sample, downloaded and preprocessed, in the default data directory of the test."""
    shutil.copytree(data_dir_of(sample_raw), tmp_path / "data")
