"""File systems that have less than Linux's usual ones, by errors of the calls that they lack.

exFAT has no hard links; CIFS and some FUSE file systems refuse to flush a directory; NFS without lockd has no locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

import pytest


def without_hard_links(monkeypatch: pytest.MonkeyPatch, error: int = errno.EPERM) -> None:
    """Let `link` fail as on exFAT."""

    def refuse(source: object, target: object, **_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)


def without_directory_fsync(monkeypatch: pytest.MonkeyPatch, error: int = errno.EINVAL) -> None:
    """Let `fsync` of a directory fail as on CIFS."""
    fsync = os.fsync

    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(error, os.strerror(error))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)


def without_locks(monkeypatch: pytest.MonkeyPatch, error: int = errno.ENOLCK) -> None:
    """Let `flock` fail as on NFS without lockd."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refuse)
