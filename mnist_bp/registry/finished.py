"""Finds a published run that a new one would only repeat: of the same data, code and settings, and decided about."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from mnist_bp.config import PLACES, RunConfig
from mnist_bp.documents import Manifest
from mnist_bp.layout import PROMOTION
from mnist_bp.registry.catalog import catalog_runs
from mnist_bp.registry.manifest import code_sha256
from mnist_bp.storage.address import open_store


def find_identical_run(config: RunConfig, dataset_key: str) -> str | None:
    """Find the newest run that equal bytes, equal code and equal settings have already given.

    Args:
        config: What would be run; `artifacts` says where to look.
        dataset_key: Key of the data that it would be trained on.

    Returns:
        Its id; None if there is none, or if it has not been decided whether it becomes champion.

    Raises:
        StoreError: The store cannot be read.
    """
    wanted = (dataset_key, code_sha256(), _settings(config.model_dump(mode="json")))
    for run in reversed(catalog_runs(open_store(config.artifacts))):
        if run.manifest is not None and PROMOTION in run.listed.files and _made_from(run.manifest) == wanted:
            return run.listed.run_id
    return None


def _made_from(manifest: Manifest) -> tuple[str, str, dict[str, JsonValue]]:
    return manifest.dataset.key, manifest.code.sha256, _settings(manifest.config)


def _settings(config: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in config.items() if name not in PLACES}
