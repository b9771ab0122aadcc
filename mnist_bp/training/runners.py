"""The choice of a runner."""

from __future__ import annotations

from mnist_bp.training.local_runner import LocalRunner
from mnist_bp.training.parts import Runner


def choose_runner(name: str) -> Runner:
    """Return the runner for a configured name.

    Args:
        name: `local`, the cores of this machine, or `ray`, a Ray cluster.
    """
    if name == "ray":
        from mnist_bp.training.ray_runner import RayRunner

        return RayRunner()
    return LocalRunner()
