"""Nights: which published run has the same data, code and settings as a new one."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from mnist_bp import __version__
from mnist_bp.config import RunConfig
from mnist_bp.registry.code import code_difference, code_sha256
from mnist_bp.registry.nightly import DAYS_SEARCHED, find_identical_run, newest_run
from mnist_bp.storage.address import open_store
from mnist_bp.storage.local import LocalStore
from tests.support.published_runs import publish, put_promotion

KEY = "0123456789abcdef"
DAYS = [date(2026, 11, 23)]
"""Days of the runs; see `run_id_of`."""


def finish(config: RunConfig, number: int, **changes: Any) -> str:
    """Publish a run of a configuration, with a promotion record."""
    store = open_store(config.artifacts)
    recorded = {**config.model_dump(mode="json"), "data_dir": "elsewhere", "artifacts": "as/it/was/given"}
    made_from = {"config": recorded, "code": {"version": "0.1.0", "sha256": code_sha256()}, **changes}
    run_id = publish(store, number, config.dataset, changes=made_from)
    put_promotion(store, run_id)
    return run_id


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(dataset="mnist", seed=20261125, artifacts=str(tmp_path / "artifacts"))


def test_the_newest_run_of_the_same_data_code_and_settings_is_found(config: RunConfig) -> None:
    assert find_identical_run(config, KEY, DAYS) is None
    finish(config, 1)
    newest = finish(config, 2)
    assert find_identical_run(config, KEY, DAYS) == newest


@pytest.mark.parametrize("change", [{"seed": 20261126}, {"steps": 20}, {"learning_rate": 0.25}, {"dataset": "kmnist"}])
def test_a_run_with_other_settings_is_not_identical(config: RunConfig, change: dict[str, Any]) -> None:
    finish(config, 1)
    assert find_identical_run(config.model_copy(update=change), KEY, DAYS) is None


def test_a_sweep_is_identical_whatever_settings_its_best_model_has(config: RunConfig) -> None:
    config = RunConfig(dataset="mnist", seed=config.seed, artifacts=config.artifacts, sweep="hidden=10,20")
    run_id = finish(config.with_swept({"hidden": 20}), 1)
    assert find_identical_run(config, KEY, DAYS) == run_id
    other = config.model_copy(update={"sweep": "hidden=10,20,40"})
    assert find_identical_run(other, KEY, DAYS) is None


def test_where_runs_are_logged_does_not_matter(config: RunConfig) -> None:
    run_id = finish(config.model_copy(update={"track": "mlflow:http://127.0.0.1:5000"}), 1)
    assert find_identical_run(config, KEY, DAYS) == run_id


def test_a_run_with_other_data_or_other_code_is_not_identical(config: RunConfig) -> None:
    finish(config, 1, code={"version": "0.1.0", "sha256": "0" * 64})
    assert find_identical_run(config, KEY, DAYS) is None
    finish(config, 2)
    assert find_identical_run(config, "fedcba9876543210", DAYS) is None


def test_a_run_without_a_promotion_record_is_not_finished(config: RunConfig) -> None:
    store = open_store(config.artifacts)
    recorded = config.model_dump(mode="json")
    publish(store, 1, changes={"config": recorded, "code": {"sha256": code_sha256()}})
    assert find_identical_run(config, KEY, DAYS) is None


def test_a_run_with_a_damaged_manifest_is_ignored(config: RunConfig) -> None:
    first, second = finish(config, 1), finish(config, 2)
    Path(config.artifacts, "runs", second, "manifest.json").write_bytes(b"{}")
    assert find_identical_run(config, KEY, DAYS) == first


# --- other code --------------------------------------------------------------


OTHER_CODE = {"version": "0.0.9", "sha256": "0123456789abcdef" * 4}


def difference(config: RunConfig, today: date = DAYS[0]) -> str | None:
    newest = newest_run(open_store(config.artifacts), config.dataset, today)
    return None if newest is None else code_difference(newest)


def test_a_newest_run_by_other_code_is_named_with_both_versions_and_digests(config: RunConfig) -> None:
    assert difference(config) is None
    finish(config, 1)
    assert difference(config) is None
    other = finish(config, 2, code=OTHER_CODE)
    assert difference(config) == (
        f"this run uses other code than the newest published run of mnist: here mnist-bp {__version__} (digest "
        f"{code_sha256()[:12]}), in {other} mnist-bp 0.0.9 (digest 0123456789ab); expected after an update, otherwise "
        "install one version on every machine"
    )
    finish(config, 3)
    assert difference(config) is None


def test_runs_of_other_datasets_without_an_intact_manifest_or_long_ago_are_no_sign_of_other_code(
    config: RunConfig,
) -> None:
    finish(config.model_copy(update={"dataset": "kmnist"}), 3, code=OTHER_CODE)
    publish(open_store(config.artifacts), 4, manifest=False)
    Path(config.artifacts, "runs", finish(config, 5, code=OTHER_CODE), "manifest.json").write_bytes(b"{}")
    assert difference(config) is None
    finish(config, 2, code=OTHER_CODE)
    assert difference(config, DAYS[0] + timedelta(days=DAYS_SEARCHED)) is not None
    assert difference(config, DAYS[0] + timedelta(days=DAYS_SEARCHED + 1)) is None


def test_one_manifest_is_read_to_find_the_newest_run_of_a_dataset(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 9):
        finish(config, number)
    read: list[str] = []
    original = LocalStore.read

    def reading(store: LocalStore, key: str) -> bytes | None:
        read.append(key)
        return original(store, key)

    monkeypatch.setattr(LocalStore, "read", reading)
    assert difference(config) is None
    assert len(read) == 1
