"""A Ray cluster of two nodes with one CPU each, which listens on loopback alone.

`ray start` replaces 127.0.0.1 with an outward address, so a separate process starts the nodes through Ray's classes.
A raylet whose agents need more than 15 s to start ends itself, which happens on a machine under load; then the cluster
is started once more. It ends with this process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench.processes import REPOSITORY

NODES: Final = 2

START: Final = """
import json, os, sys
from ray.cluster_utils import Cluster
cluster = Cluster()
own = dict(node_ip_address="127.0.0.1", num_cpus=1, include_dashboard=False, object_store_memory=200_000_000)
nodes = [cluster.add_node(**own) for _ in range(int(sys.argv[1]))]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
sys.stdin.read()
cluster.shutdown()
"""

ON_LOOPBACK: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""The first lets a driver accept 127.0.0.1, as it is on those systems; with the second, Ray sends nothing."""


class RayCluster:
    """A running cluster.

    Args:
        address: For `RAY_ADDRESS`.
        raylets: Process ids of the raylets, that of the node that drivers connect to first.
    """

    def __init__(self, address: str, raylets: list[int]) -> None:
        self.address, self.raylets = address, [psutil.Process(pid) for pid in raylets]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a driver."""
        return {**os.environ, **ON_LOOPBACK, "RAY_ADDRESS": self.address}

    def cpu_seconds(self) -> tuple[float, float]:
        """Return the seconds of CPU, user and system, of the processes that train, and of all others of the cluster."""
        training = rest = 0.0
        for process in psutil.Process(self.raylets[0].ppid()).children(recursive=True):
            title = _title(process)
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            if title.startswith("ray::"):
                training += times.user + times.system
            else:
                rest += times.user + times.system
        return training, rest

    @property
    def working(self) -> list[psutil.Process]:
        """The processes that train a part at the moment."""
        found = []
        for raylet in self.raylets:
            if raylet.is_running() and raylet.status() != psutil.STATUS_ZOMBIE:
                found += [each for each in raylet.children() if _title(each).startswith("ray::_task")]
        return found

    def listening(self) -> set[str]:
        """Return the addresses at which the processes of the cluster listen."""
        processes = {*self.raylets, *(child for raylet in self.raylets for child in raylet.children(recursive=True))}
        processes |= {*psutil.Process(self.raylets[0].ppid()).children()}
        return {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }


@contextmanager
def ray_cluster(nodes: int = NODES, variables: Mapping[str, str] | None = None) -> Iterator[RayCluster]:
    """Start a cluster, and end it with all its processes.

    Args:
        nodes: Number of nodes.
        variables: Additional environment of the nodes.
    """
    for attempt in (1, 2):
        place = Path(tempfile.mkdtemp(prefix="ray-"))  # short: the names of sockets are at most 107 bytes
        (place / "ray").mkdir()
        environment = {**os.environ, **ON_LOOPBACK, **(variables or {}), "RAY_TMPDIR": str(place)}
        environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(nodes)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if line:
                started = json.loads(line)
                yield RayCluster(started["address"], started["raylets"])
                return
            process.wait()
            logs = [path.read_text()[-1_000:] for path in place.rglob("raylet*.out")]
            assert attempt == 1, (process.stderr.read() if process.stderr else "", logs)
        finally:
            _end(process)
            shutil.rmtree(place, ignore_errors=True)


def _end(process: subprocess.Popen[str]) -> None:
    descendants = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for each in [process, *descendants]:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(descendants, timeout=10)
    process.communicate()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
