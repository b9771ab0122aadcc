"""The pull step of a deployment: what a worker does before it imports the flows, on any machine with this package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mnist_bp.errors import ConfigError

PLACE_VARIABLES: Final = ("MNIST_BP_DATA_DIR", "MNIST_BP_ARTIFACTS")


def use_installation() -> dict[str, str]:
    """Let a run work in the directory of the installed packages.

    Prefect searches the working directory of a run for the flows first. So another directory that contains `tasks.py`
    or `flows/` would hide the installed packages.

    Returns:
        The directory as `directory`, which Prefect makes the working directory: the checkout, or where pip put the
            packages.

    Raises:
        ConfigError: There is no checkout, and the environment does not state the places of data and artifacts.
    """
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").exists() and (
        missing := [name for name in PLACE_VARIABLES if not os.environ.get(name)]
    ):
        raise ConfigError(
            f"{' and '.join(missing)}: expected the places of data and artifacts in the environment of the worker or "
            "in the job variables of the deployment, since this installation has no checkout for them"
        )
    return {"directory": str(root)}
