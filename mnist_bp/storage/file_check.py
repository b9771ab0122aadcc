"""Results of verification, one for each file. Errors become results, so that one damaged file hides no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar

from mnist_bp.errors import ChecksumError, DataFormatError, MnistBpError

Status = Literal["ok", "damaged", "missing", "unreadable", "incomplete", "foreign", "not read"]
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class FileCheck:
    """The result for one file, or for a run as a whole.

    Args:
        uri: Address of the file or run.
        status: `unreadable` if reading was refused, which shows nothing about the bytes; `incomplete` if it was never
            finished, `foreign` if mnist-bp did not write it, `not read` for a run left out: none is damage.
        detail: One line for the user; may be empty.
    """

    uri: str
    status: Status
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether something is lost, or could not be verified."""
        return self.status in ("damaged", "missing", "unreadable")


def check_file(
    uri: str, read: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> tuple[Result | None, FileCheck]:
    """Call a function that reads and verifies a file.

    Args:
        uri: Address of the file, for the result.
        read: Function that raises ChecksumError or DataFormatError if the file is damaged.
        args: Positional arguments of `read`.
        kwargs: Keyword arguments of `read`.

    Returns:
        What `read` returned, or None if it raised; and the result of the check.
    """
    try:
        return read(*args, **kwargs), FileCheck(uri, "ok")
    except (ChecksumError, DataFormatError) as exc:
        return None, FileCheck(uri, "damaged", _without(uri, str(exc)))
    except MnistBpError as exc:
        return None, FileCheck(uri, "unreadable", _without(uri, str(exc)))


def _without(uri: str, message: str) -> str:
    """Remove what a result states already from a message: the address, and that it is damaged or unreadable."""
    for known in (f"{uri} is damaged: ", f"cannot read {uri}: ", f"{uri}: ", f"{uri} "):
        message = message.removeprefix(known)
    return message
