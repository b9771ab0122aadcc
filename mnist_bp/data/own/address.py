"""How `--dataset` names images of the user's own, and the name under which their runs are kept.

images:PATH     a folder for each class, of PNG and JPEG files
idx:PATH        IDX files, as MNIST is published
parquet:URI     a Parquet file, or a directory of them; local, or s3://bucket/prefix
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from mnist_bp.data.datasets import DATASETS
from mnist_bp.errors import ConfigError
from mnist_bp.results.dataset import OwnKind, OwnSource
from mnist_bp.storage.address import absolute_address, address_problem, clean_address

MAX_SIDE: Final = 1_024
"""Longest side of an image that is trained on, in pixels."""

_KINDS: Final[tuple[OwnKind, ...]] = get_args(OwnKind)
_RESERVED: Final = frozenset({"auto", *DATASETS})
_MAX_NAME: Final = 64
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SIZE: Final = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")

EXPECTED: Final = (
    f"expected {', '.join(map(repr, ('auto', *DATASETS)))}, images:PATH (a folder for each class), idx:PATH, "
    "or parquet:URI (a path or s3://bucket/prefix)"
)


def is_own(dataset: str) -> bool:
    """Return whether a dataset is named by an address of the user's own images."""
    return dataset.partition(":")[0] in _KINDS and ":" in dataset


def clean_dataset(dataset: str) -> str:
    """Return a known name as it is, and an address without blanks around its place and with `~` expanded.

    Raises:
        ValueError: It is neither; states what was expected.
    """
    dataset = dataset.strip()
    if dataset in _RESERVED:
        return dataset
    kind, _, place = dataset.partition(":")
    place = clean_address(place)
    if kind not in _KINDS or not place:
        raise ValueError(EXPECTED)
    if problem := address_problem(place):
        raise ValueError(problem if kind == "parquet" else problem.replace(" or s3://bucket/prefix", ""))
    if "://" in place and (kind != "parquet" or not place.startswith("s3://")):
        raise ValueError(f"{kind}: expected a path{' or s3://bucket/prefix' if kind == 'parquet' else ''}")
    return f"{kind}:{place}"


def absolute_dataset(dataset: str) -> str:
    """Return a name or an address that means the same from any working directory."""
    if not is_own(dataset):
        return dataset
    kind, _, place = dataset.partition(":")
    return f"{kind}:{absolute_address(place)}"


def dataset_name(dataset: str) -> str:
    """Return the name under which runs on a dataset are kept: a known name, or the last part of an address.

    A part of keys: lower-case letters, digits and hyphens. Two datasets of one name share their champion.
    """
    if not is_own(dataset):
        return dataset
    kind, _, place = absolute_dataset(dataset).partition(":")
    last = place.rstrip("/").rpartition("/")[2]
    last = last.removesuffix(".parquet") if kind == "parquet" else last
    name = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:_MAX_NAME].strip("-") or kind
    return f"own-{name}"[:_MAX_NAME] if name in _RESERVED else name


def kept_name(dataset: str) -> str:
    """Return the name under which runs are kept, given as such or by an address.

    Raises:
        ValueError: It is neither.
    """
    name = dataset_name(clean_dataset(dataset) if is_own(dataset) else dataset.strip())
    if not _NAME.fullmatch(name):
        raise ValueError("expected the name of a dataset as mnist-bp runs lists it, or the address of your own images")
    return name


def check_image_size(size: str) -> str:
    """Return a size as it is.

    Raises:
        ValueError: It is not WIDTHxHEIGHT.
    """
    if not (found := _SIZE.fullmatch(size)) or max(map(int, found.groups())) > MAX_SIDE:
        raise ValueError(f"expected WIDTHxHEIGHT in pixels, such as 28x28, with sides of at most {MAX_SIDE:,}")
    return size


def own_source(dataset: str, settings: Mapping[str, Any]) -> OwnSource:
    """Return the source that an address names.

    Args:
        dataset: An address; see `is_own`.
        settings: `image_size` and `skip_unreadable` as in `RunConfig`; either may be missing.
    """
    kind, _, place = absolute_dataset(dataset).partition(":")
    size = settings.get("image_size")
    width_height = _SIZE.fullmatch(size) if size else None
    return OwnSource(
        cast(OwnKind, kind),
        place,
        (int(width_height[1]), int(width_height[2])) if width_height else None,
        skip_unreadable=bool(settings.get("skip_unreadable")),
    )


def recorded_dataset(config: Mapping[str, Any], name: str) -> str:
    """Return what `--dataset` takes to name the dataset of a run again.

    Args:
        config: The run's `RunConfig.record`.
        name: Name of its dataset, never `auto`.
    """
    recorded = str(config.get("dataset", name))
    return recorded if is_own(recorded) else name


def check_options(dataset: str, settings: Mapping[str, Any]) -> None:
    """Refuse options for images of the user's own on another dataset, and one for pictures on other files.

    Raises:
        ConfigError: One is set.
    """
    for option in ("image_size", "skip_unreadable"):
        if settings.get(option) and not is_own(dataset):
            raise ConfigError(
                f"--{option.replace('_', '-')} with dataset {dataset}: expected images of your own, such as images:PATH"
            )
    if settings.get("skip_unreadable") and not dataset.startswith("images:"):
        raise ConfigError(
            f"--skip-unreadable with dataset {dataset}: expected images:PATH, because files of other kinds are read as "
            "a whole; leave the option out"
        )
