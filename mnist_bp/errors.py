"""Every error that this library raises on purpose.

    MnistBpError
    ├── ConfigError          a setting that cannot work, refused before anything is done
    ├── DownloadError        no mirror delivered a file; holds the reason of each mirror
    ├── ChecksumError        bytes on disk or in a store differ from the bytes that were written
    ├── DataFormatError      bytes are intact but do not have the expected format
    ├── CertificateError     an engine's arithmetic is not that of the equations; nothing is trained with it
    ├── DivergenceError      training produced a weight that is not finite
    ├── ChampionError        the champion to compare with, or its log, is damaged or missing
    ├── ClusterError         a Ray cluster cannot be reached, or cannot train a run's parts
    ├── TrackingError        an MLflow server cannot be reached or refused; the run is published all the same
    └── StoreError           a directory or an S3-compatible store refused a read or a write
        └── ConflictError    the name holds other bytes, and nothing is overwritten

A message is one line: what failed, the value, what was expected, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters with which a text can control a terminal, reorder the text around it, or fail to be encoded."""


def without_secrets(text: str) -> str:
    """Hide the user and password of every address in a text."""
    return re.sub(r"://([^\s/]*:\S*|[^\s/]*)@", "://***@", text)


def printable(text: str) -> str:
    """Return a text with every control character except line feeds escaped, as Python shows it in a string."""
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return a text with line breaks replaced by spaces, and other control characters escaped."""
    return printable(re.sub(r"\s*\n\s*", " ", text))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class MnistBpError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: Text for the user. Line breaks become spaces, secrets in addresses are hidden, and control characters
            are escaped, because parts of it may come from outside.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(one_line(message)))

    def __reduce__(self) -> tuple[Callable[..., MnistBpError], tuple[object, ...]]:
        """Pass text and attributes to another process, whatever the arguments of a subclass are."""
        return _restore, (type(self), self.args, vars(self))

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later without any change."""
        return False


def _restore(kind: type[MnistBpError], args: tuple[object, ...], attributes: Mapping[str, object]) -> MnistBpError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class ConfigError(MnistBpError):
    """A setting that cannot work."""


class ChecksumError(MnistBpError):
    """Bytes differ from their recorded digest."""


class DataFormatError(MnistBpError):
    """Intact bytes do not have the expected format."""


class CertificateError(MnistBpError):
    """An engine's gradients differ from those of float64 autograd, or its weights from the reference engine's."""


class DivergenceError(MnistBpError):
    """Training produced a weight that is not finite."""


class ChampionError(MnistBpError):
    """The champion of a dataset, or its log, is damaged or missing, so no run can be compared with it."""


class ClusterError(MnistBpError):
    """A Ray cluster cannot be reached, or cannot train the parts of a run."""


class TrackingError(MnistBpError):
    """An MLflow server cannot be reached, or refused to log a run."""


class StoreError(MnistBpError):
    """A directory or an S3-compatible store refused a read or a write.

    Args:
        message: One line for the user.
        transient: True for transport faults and overload, False for a refusal.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self._transient = transient

    @property
    def transient(self) -> bool:
        """Whether the fault was in the transport or the store was overloaded."""
        return self._transient


class ConflictError(StoreError):
    """A name in a store holds other bytes."""


FailureKind = Literal["unreachable", "interrupted", "refused", "corrupt"]


@dataclass(frozen=True)
class MirrorFailure:
    """Why one mirror did not deliver one file.

    Args:
        url: Address that was requested.
        kind: `unreachable` (no connection), `interrupted` (connection lost, timed out, overloaded),
            `refused` (a definite answer, such as 404) or `corrupt` (delivered with a wrong digest).
        reason: One line for the user, without the address.
    """

    url: str
    kind: FailureKind
    reason: str

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class DownloadError(MnistBpError):
    """No mirror delivered a file.

    Args:
        what: Name of the file for the user.
        failures: One for each mirror, in the order of the attempts.
        hint: What the user can do.
    """

    def __init__(self, what: str, failures: Sequence[MirrorFailure], hint: str) -> None:
        self.what, self.failures, self.hint = what, tuple(failures), hint
        reasons = "; ".join(str(failure) for failure in self.failures)
        super().__init__(f"could not download {what}: {reasons}. {hint}")

    @property
    def transient(self) -> bool:
        """Whether any mirror failed in a transient way."""
        return any(failure.kind in ("unreachable", "interrupted") for failure in self.failures)

    @property
    def reached(self) -> bool:
        """Whether any mirror answered in a way that a second attempt may complete."""
        return any(failure.kind == "interrupted" for failure in self.failures)
