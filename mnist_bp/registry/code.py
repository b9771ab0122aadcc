"""The code of a run: its version, and the digest of its source files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mnist_bp import __version__

if TYPE_CHECKING:  # `mnist-bp --version` needs no pydantic
    from mnist_bp.documents.manifest import Manifest

_SOURCES: Final = {".py", ".html", ".css", ".js", ".svg"}


def code_sha256() -> str:
    """Digest the library's source files on disk, so that a manifest identifies the code of its run."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in _SOURCES):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_difference(published: Manifest) -> str | None:
    """Return how the code of a published run differs from this process's, in one line; None if it is the same."""
    digest, theirs = code_sha256(), published.code
    if theirs.sha256 == digest:
        return None
    return (
        f"this run uses other code than the newest published run of {published.dataset.name}: here mnist-bp "
        f"{__version__} (digest {digest[:12]}), in {published.run_id} mnist-bp {theirs.version} (digest "
        f"{theirs.sha256[:12]}); expected after an update, otherwise install one version on every machine"
    )
