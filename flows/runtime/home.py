"""Prefect's home directory: its SQLite file, profiles, and the password of the server of `serve.py`."""

from __future__ import annotations

import os
from pathlib import Path

from mnist_bp.errors import ConfigError


def prefect_home() -> Path:
    """Return Prefect's home directory, which also contains its SQLite file."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def ensure_home(data_dir: str) -> None:
    """Create Prefect's home directory. For a user without a home directory, HOME becomes the data directory.

    A container that runs under a number for which it has no user is an example. Prefect cannot be imported then, and
    warns in two lines if it cannot create the directory.

    Raises:
        ConfigError: The directory cannot be created.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(Path(data_dir).absolute())
    home = prefect_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        below = "" if os.environ.get("PREFECT_HOME") else f", in HOME={os.environ.get('HOME', Path.home())}"
        raise ConfigError(
            f"Prefect's directory {home}{below}, cannot be created ({exc.strerror}): "
            "set PREFECT_HOME to a directory that is writable"
        ) from exc
