"""Preflight: what would fail at a run's end is refused at its start, in one line, with nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError, MnistBpError, StoreError
from mnist_bp.layout import RUN_ID
from mnist_bp.pipeline import open_run
from mnist_bp.preflight import check_memory_for, preflight
from tests.support.s3_servers import S3Server, admin_client, environment_of, free_endpoint, serve, user_with_rights


def config_with(**settings: object) -> RunConfig:
    return RunConfig.model_validate(
        {"dataset": "mnist-sample", "steps": 500, "data_dir": "data", "artifacts": "artifacts", **settings}
    )


def refusal(config: RunConfig, kind: type[MnistBpError]) -> MnistBpError:
    """Return the one-line error that a configuration is refused with."""
    with pytest.raises(kind) as caught:
        preflight(config)
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    return caught.value


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not path.is_dir()]


def test_a_good_configuration_passes_and_leaves_no_file_behind(tmp_path: Path) -> None:
    preflight(config_with())
    assert files_below(tmp_path) == []


def test_a_good_configuration_passes_with_s3_and_leaves_nothing_behind(
    s3_bucket: str, s3_admin: Any, tmp_path: Path
) -> None:
    preflight(config_with(artifacts=f"s3://{s3_bucket}/some/prefix"))
    assert s3_admin.list_objects_v2(Bucket=s3_bucket).get("Contents", []) == []
    assert files_below(tmp_path) == []


def test_preflight_leaves_what_was_published_before(tmp_path: Path) -> None:
    for name in ("data", "artifacts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text(name)
    preflight(config_with())
    assert sorted(path.read_text() for path in files_below(tmp_path)) == ["artifacts", "data"]


RIGHTS = ("s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject")


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that checks the rights of its users, with a bucket."""
    with serve("moto", tmp_path_factory.mktemp("moto")) as server, admin_client(server) as client:
        client.create_bucket(Bucket="runs")
        yield server


@pytest.mark.parametrize("missing", ["s3:PutObject", "s3:ListBucket", "s3:DeleteObject"])
def test_a_user_without_a_right_to_the_store_is_refused_by_its_name(
    missing: str, moto: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user = user_with_rights(moto, f"without-{missing[3:]}", [right for right in RIGHTS if right != missing])
    for name, value in environment_of(user).items():
        monkeypatch.setenv(name, value)
    message = str(refusal(config_with(artifacts="s3://runs/some/prefix"), StoreError))
    assert "s3://runs/some/prefix" in message
    assert "AccessDenied (HTTP 403)" in message
    assert f"their rights to the bucket: read, write, list and delete (refused: {missing})" in message
    assert files_below(tmp_path) == []


def test_an_unknown_scheme_is_refused_by_the_configuration_and_by_preflight() -> None:
    with pytest.raises(ValidationError, match=r"expected .*s3://bucket/prefix"):
        config_with(artifacts="gs://bucket/prefix")
    unchecked = config_with().model_copy(update={"artifacts": "gs://bucket/prefix"})
    message = str(refusal(unchecked, ConfigError))
    assert "'gs://bucket/prefix'" in message
    assert "s3://bucket/prefix" in message


def test_a_missing_bucket_is_refused(s3_bucket: str) -> None:
    error = refusal(config_with(artifacts="s3://no-such-bucket/prefix"), StoreError)
    assert "s3://no-such-bucket/prefix/: NoSuchBucket" in str(error)
    assert "create the bucket or correct the address" in str(error)
    assert not error.transient


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_refused_and_not_repeated(
    variable: str, s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "not-what-the-server-knows")
    error = refusal(config_with(artifacts=f"s3://{s3_bucket}"), StoreError)
    assert f"check {variable}" in str(error)
    assert s3_server.secret_key not in str(error)
    assert "not-what-the-server-knows" not in str(error)
    assert not error.transient


def test_no_credentials_are_refused(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = refusal(config_with(artifacts=f"s3://{s3_bucket}"), StoreError)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(error)


def test_a_store_that_cannot_be_reached_is_refused(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = free_endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    error = refusal(config_with(artifacts=f"s3://{s3_bucket}"), StoreError)
    assert endpoint in str(error)
    assert error.transient


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
@pytest.mark.parametrize("field", ["data_dir", "artifacts"])
def test_a_directory_that_cannot_be_written_to_is_refused(field: str, place: str, tmp_path: Path) -> None:
    """Below a regular file not even root can write."""
    Path("a-file").write_bytes(b"in the way")
    error = refusal(config_with(**{field: place}), StoreError)
    assert str(error).startswith(f"cannot write {place if field == 'data_dir' else tmp_path / place}: ")
    assert f"--{field.replace('_', '-')}" in str(error)
    assert files_below(tmp_path) == [tmp_path / "a-file"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("dataset", "examples"), [("mnist-sample", 4_000), ("mnist", 60_000), ("kmnist", 60_000), ("auto", 60_000)]
)
def test_a_batch_larger_than_the_dataset_is_refused(dataset: str, examples: int, tmp_path: Path) -> None:
    preflight(config_with(dataset=dataset, batch_size=examples))
    message = str(refusal(config_with(dataset=dataset, batch_size=examples + 1), ConfigError))
    assert message == f"batch size {examples + 1}: expected at most the {examples} training examples"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_cuda_engine_without_a_gpu_is_refused() -> None:
    message = str(refusal(config_with(engine="cuda"), ConfigError))
    assert message.startswith("engine cuda: ")
    assert "use the engine auto, cpu or reference" in message


@pytest.mark.parametrize("mirrors", ["ftp://host/mnist/", "https://host/ mnist/", "/a/directory"])
def test_unusable_mirrors_are_refused(mirrors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", mirrors)
    message = str(refusal(config_with(), ConfigError))
    assert message.startswith(f"MNIST_BP_MIRRORS contains {mirrors.split()[-1]!r}: expected ")


@pytest.mark.parametrize("settings", [{"batch_size": 4_001}, {"engine": "cuda"}])
def test_a_refused_configuration_makes_no_directory(settings: dict[str, object], tmp_path: Path) -> None:
    if settings.get("engine") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refusal(config_with(**settings), ConfigError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runner", ["local", "ray"])
def test_more_scores_than_fit_in_memory_are_refused_with_what_to_do(
    runner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On Ray too: the machine that starts the run has the scores of all models at the end."""
    monkeypatch.setattr("mnist_bp.engines.parallel.available_memory", lambda: 2 * 10**9)
    monkeypatch.setattr("mnist_bp.preflight.usable_cores", lambda: 1)
    many = config_with(seeds="1000000", steps=10_000, checkpoint_every=1_000, runner=runner)
    assert str(refusal(many, ConfigError)) == (
        "the scores of 1,000,000 models at 10 checkpoints need about 2.2 GB of memory, and 2.0 GB are free; "
        "write fewer checkpoints (--checkpoint-every), or train fewer models"
    )
    assert files_below(tmp_path) == []
    check_memory_for(config_with(seeds="1000000", steps=10_000, checkpoint_every=2_000, runner=runner), 784, 10, 3_667)


def test_without_resume_a_run_gets_a_new_id() -> None:
    first, second = (open_run(config_with()) for _ in range(2))
    assert RUN_ID.fullmatch(first.run_id)
    assert first.run_id != second.run_id
    assert first.manifest is None


def test_a_run_that_would_fail_later_gets_no_id() -> None:
    with pytest.raises(ConfigError, match="batch size 4001"):
        open_run(config_with(batch_size=4001))
