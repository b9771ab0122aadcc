"""The nodes of a Ray cluster that may train, and how many tasks they can run at a time."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Any, Final

from mnist_bp.errors import ClusterError, counted
from mnist_bp.training.ray_connection import ADDRESS

logger = logging.getLogger(__name__)

MAX_CORES: Final = 8
"""Cores of a task: each process takes 330 MB, so a large node has few of them."""

LIST_S: Final = 1.0
"""Seconds after which the nodes are listed again, which takes 0.4 ms."""


class Nodes:
    """The nodes of a cluster, which come and go.

    Args:
        ray: The module, connected.
        gpu: Whether a task needs a GPU.

    Attributes:
        gpus: GPUs of a task.
        cores: CPUs of a task: those of the smallest node, at most `MAX_CORES`.

    Raises:
        ClusterError: The cluster has no CPU, or no GPU.
    """

    def __init__(self, ray: Any, *, gpu: bool) -> None:
        self._ray, self.gpus = ray, int(gpu)
        self._listed: list[dict[str, Any]] = []
        self._listed_at = -math.inf
        self._excluded: set[str] = set()
        able = [node for node in self._usable() if node.get("GPU", 0) >= self.gpus]
        if not able:
            unit = "GPU, which the engine cuda needs" if gpu else "CPU"
            raise ClusterError(f"the cluster has no {unit}; {self}")
        self.cores = 1 if gpu else max(1, min(MAX_CORES, *(int(node["CPU"]) for node in able)))

    @property
    def unit(self) -> str:
        """What a task waits for."""
        return "GPU" if self.gpus else "CPU"

    @property
    def slots(self) -> int:
        """The number of tasks that can run at a time."""
        if self.gpus:
            return sum(int(node.get("GPU", 0)) for node in self._usable())
        return sum(int(node["CPU"]) // self.cores for node in self._usable())

    @property
    def selector(self) -> dict[str, str] | None:
        """What Ray's scheduler must know of the nodes that are excluded."""
        return {"ray.io/node-id": f"!in({','.join(sorted(self._excluded))})"} if self._excluded else None

    def exclude(self, node: str) -> bool:
        """Let a node run no more tasks.

        Returns:
            Whether it ran some until now.
        """
        new = node not in self._excluded
        self._excluded.add(node)
        return new

    def _usable(self) -> list[dict[str, float]]:
        """Return the resources of the nodes that may train."""
        if (now := time.monotonic()) > self._listed_at + LIST_S:
            before = {node["NodeID"] for node in self._listed if node["Alive"]}
            self._listed, self._listed_at = self._ray.nodes(), now
            for node in self._listed:
                if not node["Alive"] and node["NodeID"] in before:
                    logger.warning(f"node {node['NodeID'][:8]} was lost; the others train its parts again")
        nodes = [node for node in self._listed if node["Alive"] and node["NodeID"] not in self._excluded]
        return [node["Resources"] for node in nodes if node["Resources"].get("CPU", 0) >= 1]

    def __str__(self) -> str:
        found, free = self._ray.cluster_resources(), self._ray.available_resources()
        cpus, gpus = (counted(int(found.get(unit, 0)), unit) for unit in ("CPU", "GPU"))
        return f"{os.environ[ADDRESS]} has {cpus}, {free.get('CPU', 0):.0f} of them free, and {gpus}"
