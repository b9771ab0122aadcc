"""Runs on a real Ray cluster of two nodes: whatever is lost, the files are those of one machine."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from bench.ray_cluster import RayCluster, ray_cluster
from tests.support.waiting import HANG_S, eventually

Found = TypeVar("Found")

pytestmark = pytest.mark.slow

SWEEP = ["--dataset", "mnist-sample", "--sweep", "hidden=5,6,7,8,9,10,11,12", "--seeds", "1..8", "--steps", "20000"]
SWEEP += ["--checkpoint-every", "20000", "--json"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose caches all runs share."""
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def local_files(place: Path, cluster: RayCluster) -> dict[str, str]:
    """The files of the parts as this machine makes them."""
    run = start(place, cluster, "local")
    assert run.wait(HANG_S) == 0, (place / "local.log").read_text()
    return files(place, "local")


def start(place: Path, cluster: RayCluster, name: str, *flags: str) -> subprocess.Popen[bytes]:
    """Start a run, with a separate store."""
    runner = "local" if name == "local" else "ray"
    with (place / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mnist_bp", "train", *SWEEP, "--runner", runner, "--artifacts", name, *flags],
            cwd=place,
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def while_running(run: subprocess.Popen[bytes], look: Callable[[], Found], what: str) -> Found:
    """Poll until the result is true; fail at once if the run has ended."""

    def found() -> Found:
        assert run.poll() is None, what
        return look()

    return eventually(found, what)


def files(place: Path, name: str) -> dict[str, str]:
    """Digest the files of the parts of a run, and check them against its manifest."""
    (run,) = (place / name / "runs").glob("*")
    found = {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.glob("checkpoints/*/part-*")
    }
    (manifest,) = run.glob("manifest.json")
    assert all(digest in manifest.read_text() for digest in found.values())
    return found


def test_the_nodes_listen_on_loopback_alone(cluster: RayCluster) -> None:
    assert {address.removeprefix("::ffff:") for address in cluster.listening()} <= {"127.0.0.1", "::1"}


def test_killed_processes_and_a_killed_driver_change_no_byte_of_any_part(
    cluster: RayCluster, place: Path, local_files: dict[str, str]
) -> None:
    draw, log = random.Random(1), place / "killed.log"
    run = start(place, cluster, "killed")
    while_running(run, lambda: list(place.glob("killed/runs/*/checkpoints/*/part-*")), "no part was put")
    for _ in range(2):
        victim = draw.choice(while_running(run, lambda: cluster.working, "no part is being trained"))
        victim.kill()
        victim.wait()
    while_running(run, lambda: " is trained again: " in log.read_text(), "no part was lost")
    run.send_signal(signal.SIGKILL)
    run.wait()
    (directory,) = place.glob("killed/runs/*")
    assert not (directory / "manifest.json").exists()
    assert start(place, cluster, "killed", "--resume", directory.name).wait(HANG_S) == 0, log.read_text()
    assert files(place, "killed") == local_files
    assert len(local_files) == 8


def test_a_terminated_run_ends_with_the_exit_code_and_the_hint_of_any_run(cluster: RayCluster, place: Path) -> None:
    run = start(place, cluster, "ended")
    while_running(run, lambda: list(place.glob("ended/runs/*/checkpoints/*/part-*")), "no part was put")
    run.send_signal(signal.SIGTERM)
    assert run.wait(HANG_S) == 130
    log = (place / "ended.log").read_text()
    assert "error: interrupted; the run is kept; resume it with:" in log
    assert "SIGTERM received" not in log


def test_a_lost_node_changes_no_byte_of_any_part(cluster: RayCluster, place: Path, local_files: dict[str, str]) -> None:
    """The last test of the cluster: one node is left."""
    run = start(place, cluster, "lost")
    lost = cluster.raylets[1]
    while_running(
        run, lambda: any(each.ppid() == lost.pid for each in cluster.working), "the second node trains nothing"
    )
    for each in [lost, *lost.children(recursive=True)]:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    assert run.wait(HANG_S) == 0, (place / "lost.log").read_text()
    assert files(place, "lost") == local_files
