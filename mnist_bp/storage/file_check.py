"""What verifying finds: one finding for each file. Errors become findings, so one damaged file hides no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar

from mnist_bp.errors import ChecksumError, DataFormatError, MnistBpError

Status = Literal["ok", "damaged", "missing", "unreadable", "incomplete", "foreign"]
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class FileCheck:
    """What was found about one file, or about a run as a whole.

    Args:
        uri: Which.
        status: `unreadable` is a refusal to read, which tells nothing about the bytes; `incomplete` was never
            finished, and `foreign` is none of ours: neither is damage.
        detail: For the reader; empty where there is nothing to say.
    """

    uri: str
    status: Status
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether something is lost, or could not be proved."""
        return self.status in ("damaged", "missing", "unreadable")


def check_file(
    uri: str, read: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> tuple[Result | None, FileCheck]:
    """Call what reads and proves a file.

    Args:
        uri: The file, for the finding.
        read: Raises ChecksumError or DataFormatError for what is damaged.
        args: Its arguments.
        kwargs: Its arguments by name.

    Returns:
        What it returned, or None if it raised; and the finding.
    """
    try:
        return read(*args, **kwargs), FileCheck(uri, "ok")
    except (ChecksumError, DataFormatError) as exc:
        return None, FileCheck(uri, "damaged", str(exc))
    except MnistBpError as exc:
        return None, FileCheck(uri, "unreadable", str(exc))
