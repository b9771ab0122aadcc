"""Addresses of stores: a directory, or a bucket of an S3-compatible store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from mnist_bp.errors import UNPRINTABLE, ConfigError, StoreError
from mnist_bp.layout import CHAMPION, RUNS
from mnist_bp.storage.interface import Store
from mnist_bp.storage.local import LocalStore
from mnist_bp.storage.retries import RetryPolicy

LINKS_VARIABLE: Final = "MNIST_BP_ARTIFACTS_URL"

_WEB_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~%/-]*)?")
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")


def open_store(uri: str, *, attempts: int = RetryPolicy.attempts) -> Store:
    """Open a store by its address. No request is made yet.

    Args:
        uri: A directory, file:///directory or s3://bucket/prefix.
        attempts: Maximum number of attempts of one request to S3.

    Raises:
        ConfigError: The address has another form; a secret in it is not repeated.
    """
    if problem := address_problem(uri):
        raise ConfigError(f"{uri!r} is not the address of a store: {problem}")
    scheme, _, rest = uri.rpartition("://")
    if scheme == "s3":
        from mnist_bp.storage.s3 import S3Store  # boto3: 0.3 s, and absent on machines that only train

        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix.strip("/"), RetryPolicy(attempts))
    return LocalStore(Path(unquote(rest) if scheme == "file" else rest))


def url_of(store: Store, key: str) -> str | None:
    """Return the http address of a key, for links, or None if the store has none for a browser.

    `$MNIST_BP_ARTIFACTS_URL` is the address of the whole store, for a directory that a web server shows, or for a
    bucket whose endpoint a browser does not reach.

    Raises:
        ConfigError: The variable has another form than http://host/path or https://host/path.
    """
    base = os.environ.get(LINKS_VARIABLE, "").strip()
    if not base:
        return store.url(key)
    if not _WEB_ADDRESS.fullmatch(base):
        raise ConfigError(f"{LINKS_VARIABLE}: expected http://host/path or https://host/path, without user or query")
    return f"{base.rstrip('/')}/{quote(key)}"


def open_existing_store(uri: str, *, attempts: int = RetryPolicy.attempts, empty: bool = False) -> Store:
    """Open a store in which something should be found: a mistyped address is an error, not an empty store.

    Args:
        uri: See `open_store`.
        attempts: See `open_store`.
        empty: Whether nothing may have been published yet. A directory must exist in any case.

    Raises:
        ConfigError: See `open_store`.
        StoreError: The directory is missing; or the address has other files alone or, in a bucket, none at all.
    """
    store = open_store(uri, attempts=attempts)
    if isinstance(store, LocalStore):
        directory = Path(store.uri(""))
        found = directory.is_dir() and (empty or not any(directory.iterdir()) or _has_runs(store))
    else:
        found = empty or _has_runs(store)
    if not found:
        raise StoreError(
            f"there is no store at {store.uri('')}: nothing was published there; check --artifacts "
            "($MNIST_BP_ARTIFACTS), or publish a run first"
        )
    return store


def _has_runs(store: Store) -> bool:
    return any(True for prefix in (RUNS, CHAMPION) for _ in store.list_entries(prefix, page_size=1))


def clean_address(text: str) -> str:
    """Return an address without the blanks and line ends around it, and with the home directory for a leading `~`.

    A shell does not expand `~` in `--flag=~/data` or in quotes, and a file with Windows line ends adds a carriage
    return to each value. Without a home directory, `~` is returned as it is.
    """
    return os.path.expanduser(text.strip())  # noqa: PTH111 - Path.expanduser raises RuntimeError without a home


def absolute_address(uri: str) -> str:
    """Return an address that names the same place from any working directory, by whatever path it is reached.

    Links to its parents are followed. A last part that is a link is kept: it names a dataset, and may stand for a
    directory that was moved.
    """
    if "://" in uri:
        return uri
    path = Path(uri)
    if path.name in ("", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - Path.resolve refuses loops of links


def address_problem(uri: str) -> str | None:
    """Return what is wrong with the address of a store, or None if `open_store` accepts it."""
    if UNPRINTABLE.search(uri):  # a manifest that contains it could not be read
        return "expected a directory or s3://bucket/prefix in UTF-8, without control characters"
    scheme, separator, rest = uri.partition("://")
    host = rest.partition("/")[0]
    if not separator:
        fits = not uri.startswith(("s3:", "file:"))
    else:
        fits = (scheme == "file" and not host) or (scheme == "s3" and _BUCKET.fullmatch(host) is not None)
    if fits:
        return None
    hint = " without credentials, which belong in the AWS_* environment" if ":" in host or "@" in rest else ""
    return f"expected a directory or s3://bucket/prefix{hint}"
