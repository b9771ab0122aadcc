"""The password of a Prefect server that this project starts, in the form of Prefect's settings: user:password."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from mnist_bp.errors import MnistBpError

FILE: Final = "mnist-bp-password"
"""Name of the password's file in Prefect's home."""

SERVER_VARIABLE: Final = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT_VARIABLE: Final = "PREFECT_API_AUTH_STRING"

_USER: Final = "mnist-bp:"


class PasswordError(MnistBpError):
    """The password's file cannot be read or written."""


def prefect_home() -> Path:
    """Return Prefect's home directory, which also contains its SQLite file."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def new_password() -> str:
    """Generate a password with 192 random bits."""
    return _USER + secrets.token_urlsafe(24)


def kept_password() -> str:
    """Return the password in Prefect's home, which stays the same from one start to the next.

    A file that other users may read, or that is not complete, is replaced: its password may be known.

    Raises:
        PasswordError: The file cannot be read or written.
    """
    path = prefect_home() / FILE
    try:
        if path.exists() and not path.stat().st_mode & 0o077:
            known = path.read_text("ascii", errors="replace").strip()
            if known.startswith(_USER) and known.isprintable() and len(known) == len(new_password()):
                return known
        return _write(path, new_password())
    except OSError as exc:
        raise PasswordError(
            f"cannot keep the password of Prefect's server in {path} ({exc.strerror}): "
            "make it writable, or set PREFECT_HOME to another directory"
        ) from exc


def _write(path: Path, password: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    # created with this mode, so that no other user can ever open it
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
    temporary.replace(path)
    return password
