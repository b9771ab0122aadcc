"""What tests share: real data, S3 servers, and an isolated environment."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.data.download import fetch_dataset
from mnist_bp.data.preprocess import preprocess_dataset
from mnist_bp.presets import PRESETS
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from tests.support.killed_runs import RunLauncher
from tests.support.memory_files import choose_directory
from tests.support.published_runs import promote, train_and_evaluate
from tests.support.s3_servers import S3Server, admin_client, environment_of, present_servers, serve
from tests.support.scheduling import Scheduling
from tests.support.waiting import cores

pytest_plugins = ["tests.support.reporting", "tests.support.scripts"]

SMALL = ["--dataset", "mnist-sample", "--steps", "200", "--checkpoint-every", "100"]
ENDLESS = ["--dataset", "mnist-sample", "--steps", "1000000000", "--checkpoint-every", "100000"]
"""Flags of a run that a test interrupts."""

RAY_CLUSTER = "test_ray.py"
"""Name of the file of tests on a Ray cluster."""

MIRRORS_OF_THE_SESSION = os.environ.get("MNIST_BP_MIRRORS")

choose_directory(os.environ)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job, and inherited by every subprocess
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say which S3 servers the stores are tested on."""
    return f"S3 servers: {', '.join(present_servers())}"


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run at once: one more than the cores, since many wait; at most four, of 1 GB each."""
    return min(cores() + 1, 4)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Let one process run the tests that wait; other distributions than by file are those of xdist."""
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that hold slow tests: none of them is left to a single process at the end.

    The exception is that of the Ray cluster, which has to start within 15 s: it comes last, when cores are idle.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name == RAY_CLUSTER, item.path not in slow))


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's settings and credentials out of every test, and its files out of the working directory.

    In this order, a test's patches of `os` are undone before its directory is removed.
    """
    for name in list(os.environ):
        if name.startswith(("AWS_", "MNIST_BP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def mnist_mirrors() -> str:
    """`MNIST_BP_MIRRORS` as the session was given it: mirrors that hold the full MNIST."""
    if MIRRORS_OF_THE_SESSION:
        return MIRRORS_OF_THE_SESSION
    reason = "needs the full MNIST: set MNIST_BP_MIRRORS to an address that holds its four files"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true makes this a failure)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def mnist_raw(mnist_mirrors: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDataset]:
    """The full MNIST as downloaded, in `data_dir/raw`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MNIST_BP_MIRRORS", mnist_mirrors)
        yield fetch_dataset("mnist", tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="session")
def mnist(mnist_raw: RawDataset) -> CachedDataset:
    """The full MNIST, preprocessed."""
    return preprocess_dataset(mnist_raw, data_dir_of(mnist_raw))


@pytest.fixture(scope="session")
def sample_raw(tmp_path_factory: pytest.TempPathFactory) -> RawDataset:
    """The bundled sample, unpacked."""
    return fetch_dataset("mnist-sample", tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def sample(sample_raw: RawDataset) -> CachedDataset:
    """The bundled sample, preprocessed."""
    return preprocess_dataset(sample_raw, data_dir_of(sample_raw))


@pytest.fixture(scope="session")
def digits_store(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """A store whose champion, trained on the bundled sample like relu-128, reads 19 of 20 digits; and its run id."""
    place = tmp_path_factory.mktemp("digits")
    recipe = PRESETS["relu-128"].recipe
    settings = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "steps"}
    run = train_and_evaluate(
        sample_raw, sample, place / "data", hidden=64, steps=12_000, checkpoint_every=12_000, **settings
    )
    run_id = run.publish(str(place / "artifacts")).run_id
    promote(open_store(str(place / "artifacts")), run_id, "mnist-sample")
    return str(place / "artifacts"), run_id


@pytest.fixture
def warm_caches(sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path) -> None:
    """The bundled sample, downloaded and preprocessed, in the default data directory of the test."""
    shutil.copytree(data_dir_of(sample_raw), tmp_path / "data")


@pytest.fixture
def own_signals() -> Iterator[None]:
    """For tests that call a main: its signal handlers are let go afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def running_s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Return a function that starts an S3 server at its first call with a name; all end with the session."""
    with ExitStack() as running:

        @cache
        def start(name: str) -> S3Server:
            return running.enter_context(serve(name, tmp_path_factory.mktemp(name)))

        yield start


@pytest.fixture(scope="session", params=present_servers())
def s3_server(request: pytest.FixtureRequest, running_s3_servers: Callable[[str], S3Server]) -> S3Server:
    """One real S3 server after the other: see `present_servers`. Tests of several files share them, not buckets."""
    return running_s3_servers(request.param)


@pytest.fixture(scope="session")
def s3_admin(s3_server: S3Server) -> Iterator[Any]:
    """A boto3 client that sees the server as it is, whatever the environment says."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        with admin_client(s3_server) as client:
            environment.undo()
            yield client


@pytest.fixture
def s3_bucket(s3_server: S3Server, s3_admin: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a fresh bucket, with the environment set for it; `_own_environment`, being autouse, came before."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_admin.create_bucket(Bucket=bucket)
    for name, value in environment_of(s3_server).items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture(scope="session")
def launcher() -> Iterator[RunLauncher]:
    """One process that forks runs for the whole session, because it takes seconds to start."""
    with RunLauncher() as launcher:
        yield launcher


def data_dir_of(raw: RawDataset) -> Path:
    """The data directory that a dataset was fetched into."""
    return Path(raw.files[0].path).parents[2]
