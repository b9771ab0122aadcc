"""The password of a Prefect server that this project starts, in the form of Prefect's settings: user:password.

Each server has a new one. A process of another user that listens on the port after the server has ended, and is sent
the password by a client that does not know so, learns one that opens nothing.
"""

from __future__ import annotations

import os
import secrets
import shlex
from typing import Final

from flows.runtime.home import prefect_home
from mnist_bp.errors import MnistBpError

FILE: Final = "mnist-bp-password"
"""Name of the password's file in Prefect's home."""

SERVER_VARIABLE: Final = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT_VARIABLE: Final = "PREFECT_API_AUTH_STRING"

_USER: Final = "mnist-bp:"


class PasswordError(MnistBpError):
    """The password's file cannot be written."""


def export_command() -> str:
    """Return the shell command that gives clients the password of this machine's server, without the password."""
    if os.environ.get(SERVER_VARIABLE):
        return f'export {CLIENT_VARIABLE}="${SERVER_VARIABLE}"'
    return f'export {CLIENT_VARIABLE}="$(cat {shlex.quote(str(prefect_home() / FILE))})"'


def new_password() -> str:
    """Generate a password with 192 random bits."""
    return _USER + secrets.token_urlsafe(24)


def write_password(password: str) -> None:
    """Write a password to Prefect's home, for the commands of the same user. It replaces that of an earlier server.

    Raises:
        PasswordError: The file cannot be written.
    """
    path = prefect_home() / FILE
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # created with this mode, so that no other user can ever open it
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password + "\n")
        temporary.replace(path)
    except OSError as exc:
        raise PasswordError(
            f"cannot write the password of Prefect's server to {path} ({exc.strerror}): "
            "make it writable, or set PREFECT_HOME to another directory"
        ) from exc
