"""Result of the upload: the run in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRun:
    """A run in the store.

    Args:
        run_id: Its id.
        artifacts: URI of the prefix of its files.
        manifest: URI of its manifest, which is put last.
        manifest_sha256: Digest of the manifest, which holds the digests of all other files.
        files: Number of files, including the manifest.
        size: Their size in bytes.
        report_url: Address of its report for a browser, or None; see `Store.url`.
    """

    run_id: str
    artifacts: str
    manifest: str
    manifest_sha256: str
    files: int
    size: int
    report_url: str | None = None
