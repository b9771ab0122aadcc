"""Every error this library raises on purpose.

    MnistBpError
    ├── ConfigError          a value that cannot work: refused before anything is done
    ├── DownloadError        no mirror delivered a file (carries every mirror's reason)
    ├── ChecksumError        bytes on disk or in a store are not the bytes that were written
    ├── DataFormatError      bytes are intact but not what their format promises
    ├── CertificateError     an engine's arithmetic is not that of the equations: nothing is trained with it
    ├── DivergenceError      training left the finite numbers
    ├── ChampionError        the champion to be compared with, or its pointer, is damaged or gone
    └── StoreError           a directory or an S3-compatible store refused a read or a write
        └── ConflictError    other bytes are there under that name, and nothing is overwritten

A message is one line: what failed, the value, what was expected, and what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


def without_secrets(text: str) -> str:
    """Hide the user and password of every address in a text."""
    return re.sub(r"://([^\s/]*:\S*|[^\s/]*)@", "://***@", text)


class MnistBpError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: For the user; it is made one line, and secrets in addresses are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(re.sub(r"\s*\n\s*", " ", message)))

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later without anything being changed."""
        return False


class ConfigError(MnistBpError):
    """A setting that cannot work."""


class ChecksumError(MnistBpError):
    """Bytes differ from the digest recorded for them."""


class DataFormatError(MnistBpError):
    """Intact bytes that are not what their format promises."""


class CertificateError(MnistBpError):
    """An engine computes other gradients than float64 autograd, or leaves the reference's trajectory."""


class DivergenceError(MnistBpError):
    """Training produced a weight that is not finite."""


class ChampionError(MnistBpError):
    """The champion of a dataset, or the pointer to it, is damaged or gone: nothing can be compared with it."""


class StoreError(MnistBpError):
    """A directory or an S3-compatible store refused a read or a write.

    Args:
        message: One line for the user.
        transient: True for transport faults and overload (worth a retry), False for a refusal.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self._transient = transient

    @property
    def transient(self) -> bool:
        """Whether the fault was in the transport or the store was overloaded."""
        return self._transient


class ConflictError(StoreError):
    """A name in a store is taken by other bytes."""


FailureKind = Literal["unreachable", "interrupted", "refused", "corrupt"]


@dataclass(frozen=True)
class MirrorFailure:
    """Why one mirror did not deliver one file.

    Args:
        url: Address that was tried.
        kind: `unreachable` (no connection), `interrupted` (broken off, timed out, overloaded),
            `refused` (a definite no, such as 404) or `corrupt` (delivered, but with the wrong digest).
        reason: For the reader, without the address.
    """

    url: str
    kind: FailureKind
    reason: str

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class DownloadError(MnistBpError):
    """No mirror delivered a file.

    Args:
        what: The file, as the user knows it.
        failures: One for each mirror tried, in order.
        remedy: What the user can do.
    """

    def __init__(self, what: str, failures: Sequence[MirrorFailure], remedy: str) -> None:
        self.what, self.failures, self.remedy = what, tuple(failures), remedy
        reasons = "; ".join(str(failure) for failure in self.failures)
        super().__init__(f"could not download {what}: {reasons}. {remedy}")

    def __reduce__(self) -> tuple[type[DownloadError], tuple[object, ...]]:
        return DownloadError, (self.what, self.failures, self.remedy)

    @property
    def transient(self) -> bool:
        """Whether any mirror failed in a way that may pass."""
        return any(failure.kind in ("unreachable", "interrupted") for failure in self.failures)

    @property
    def reached(self) -> bool:
        """Whether any mirror answered with something a second attempt may turn into the file."""
        return any(failure.kind == "interrupted" for failure in self.failures)
