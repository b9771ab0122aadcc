"""The cost of a store is measured on real stores, which are left as they were."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import store as measured
from bench.store_actions import MeasuredStore
from mnist_bp.cli.main import main
from mnist_bp.errors import ConfigError, StoreError
from mnist_bp.results.dataset import CachedDataset, RawDataset
from tests.support.s3_servers import admin_client, environment_of, serve

BUCKET = "runs"
ARTIFACTS = f"s3://{BUCKET}/some/prefix"

on_each_kind = pytest.mark.parametrize("name", ["moto", "rclone"])
"""A server that honours conditions, and one that ignores them."""


@contextmanager
def bucket_on(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a server that holds a bucket with one foreign object; the environment points to it."""
    with serve(name, directory) as server, admin_client(server) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="some/prefix/runs/theirs", Body=b"theirs")
        for variable, value in environment_of(server).items():
            monkeypatch.setenv(variable, value)
        yield client


def keys_in(client: Any) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@on_each_kind
def test_a_bucket_is_measured_in_turn_with_a_directory_and_left_as_it_was(
    name: str, sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with bucket_on(name, tmp_path / "server", monkeypatch) as client:
        found = measured.measure(2, ARTIFACTS, said.append, sources=(sample_raw, sample), many=3)
        assert keys_in(client) == ["some/prefix/runs/theirs"]
    result = json.loads(json.dumps(found))
    assert result["run"]["files"] == 15
    assert result["verified"] == {"runs": 3, "files": 3 * (15 + 1)}
    local, bucket = result["stores"]
    assert (local["name"], bucket["name"]) == ("local directory", ARTIFACTS)
    assert [local["supports_conditional_writes"], bucket["supports_conditional_writes"]] == [True, name != "rclone"]
    for store in (local, bucket):
        assert [action["name"] for action in store["actions"]] == list(measured.ACTIONS)
        assert all(len(action["seconds"]) == 2 and action["min"] > 0 for action in store["actions"])
    assert all(action["ratio"] == 1 for action in local["actions"])
    assert said[-1] == "store: round 2 of 2"

    printed = Console(width=200, record=True, file=io.StringIO())
    printed.print(measured.table(result))
    text = printed.export_text()
    for expected in ("verify --all, 3 runs", "n = 2", "15 files", ARTIFACTS, result["machine"]["cpu"]):
        assert expected in text
    assert ("conditional writes are ignored" in text) == (name == "rclone")


def test_a_bucket_is_left_as_it_was_when_the_measurement_fails(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: MeasuredStore) -> dict[str, float]:
        raise StoreError("no more")

    monkeypatch.setattr(MeasuredStore, "measure", broken)
    with bucket_on("rclone", tmp_path / "server", monkeypatch) as client:
        with pytest.raises(StoreError, match="no more"):
            measured.measure(1, ARTIFACTS, sources=(sample_raw, sample), many=1)
        assert keys_in(client) == ["some/prefix/runs/theirs"]


def test_a_directory_is_measured_in_place_and_left_as_it_was(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path
) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "file.txt").write_text("theirs")
    made: list[str] = []
    result = measured.measure(
        1, "place", lambda _: made.extend(path.name for path in (tmp_path / "place").iterdir()),
        sources=(sample_raw, sample), many=1,
    )  # fmt: skip
    assert len(set(made)) == 2
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["file.txt"]
    assert len(result["stores"]) == 1


def test_a_run_that_the_store_loses_is_an_error_and_not_a_figure(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path
) -> None:
    def lose(line: str) -> None:
        if line.startswith("store: round"):
            next((tmp_path / "place").rglob("many/runs/*/model.safetensors")).unlink()

    (tmp_path / "place").mkdir()
    with pytest.raises(StoreError, match=r"model\.safetensors: missing: "):
        measured.measure(1, "place", lose, sources=(sample_raw, sample), many=2)


@pytest.mark.parametrize("artifacts", ["gs://bucket/prefix", "file:///somewhere", "s3:/bucket", "no/such/directory"])
def test_an_address_where_nothing_can_be_measured_is_refused(artifacts: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(artifacts)}.*expected .*directory or s3://bucket/prefix"):
        measured.measure(1, artifacts)
    assert list(tmp_path.iterdir()) == []


def test_zero_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds: expected at least 1"):
        measured.measure(0)


def test_a_bucket_without_credentials_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "store", "--artifacts", ARTIFACTS]) == 1
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in capsys.readouterr().err
