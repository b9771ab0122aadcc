"""The places that a user names: directories, stores and tracking servers, with their defaults from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema

from mnist_bp.storage.address import address_problem, clean_address

_TRACKING: Final = re.compile(r"mlflow:https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")


def data_dir_from_environment() -> str:
    """Return `$MNIST_BP_DATA_DIR`, or `data` in the working directory."""
    return clean_address(os.environ.get("MNIST_BP_DATA_DIR", "")) or "data"


def artifacts_from_environment() -> str:
    """Return `$MNIST_BP_ARTIFACTS`, or `artifacts` in the working directory."""
    return clean_address(os.environ.get("MNIST_BP_ARTIFACTS", "")) or "artifacts"


def tracking_from_environment() -> str:
    """Return `$MNIST_BP_TRACK`, or an empty string."""
    return clean_address(os.environ.get("MNIST_BP_TRACK", ""))


def check_tracking_address(value: str) -> str:
    """Return the address of a tracking server if it has the form of one; raise a ValueError that states it."""
    if _TRACKING.fullmatch(value):
        return value
    hint = "; a user and password belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    raise ValueError(f"expected mlflow:http://HOST:PORT or mlflow:https://HOST{hint if '@' in value else ''}")


def or_default(default: Callable[[], str | None]) -> BeforeValidator:
    """Return a validator that replaces None, and the empty text of a form, by a default."""
    return BeforeValidator(lambda place: default() if _is_empty(place) else place)


def _is_empty(value: object) -> bool:
    """Return whether a value is None, or the text of a form's field that was emptied."""
    return value is None or (isinstance(value, str) and not value.strip())


def _check_address(value: str) -> str:
    if problem := address_problem(value):
        raise ValueError(problem)
    return value


def _cleaned(value: str) -> str:
    address = clean_address(value)
    if address.startswith("~"):
        raise ValueError("~ cannot be expanded: expected a user with a home directory; set HOME, or write out the path")
    return address


Directory = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_cleaned)]
"""A directory as a user writes it; see `clean_address`."""

StoreAddress = Annotated[Directory, AfterValidator(_check_address)]
"""Address of a store: a directory or s3://bucket/prefix."""

TrackAddress = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(check_tracking_address)]
"""Address of an MLflow server, `mlflow:` and its URL without credentials."""

IN_A_FORM: Final = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None})
"""A form sends every field: null or an empty text where no place is stated, which the process that runs decides."""
