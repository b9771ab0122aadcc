"""Which addresses name a store, and which are refused without repeating a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from mnist_bp.preflight import preflight
from mnist_bp.storage.address import open_store, url_of
from mnist_bp.storage.local import LocalStore
from tests.support.store_files import put


def refused(address: str) -> str:
    """Return the one-line error of an address; check that a configuration refuses it too, and repeats no secret."""
    with pytest.raises(ConfigError) as caught:
        open_store(address)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "s3://bucket/prefix" in message
    with pytest.raises(ValidationError) as by_config:
        RunConfig(artifacts=address)
    assert "hunter2" not in str(by_config.value)
    return message


@pytest.mark.parametrize(
    "address",
    [
        "gs://bucket/prefix",
        "https://host/path",
        "S4://bucket",
        "s3://",
        "s3:///prefix",
        "s3://no bucket!/prefix",
        "file://host/path",
        "s3:/bucket/x",
        "red\x1b[31m",  # a manifest with this address could not be read
        "latin-1-\udce9",
    ],
)
def test_an_address_that_names_no_store_is_refused(address: str) -> None:
    assert repr(address) in refused(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAEXAMPLE:hunter2@bucket/prefix",
        "s3://hunter2@bucket",
        "s3://AKIAEXAMPLE:hunter2@",
        "https://AKIAEXAMPLE:hunter2@host/prefix",
        "s3://AKIAEXAMPLE:base64/of/hunter2@bucket/prefix",  # every second AWS secret holds a slash
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    message = refused(address)
    assert "AWS_*" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("s3://bucket", "s3://bucket/key"),
        ("s3://bucket/", "s3://bucket/key"),
        ("s3://bucket/a/prefix/", "s3://bucket/a/prefix/key"),
        ("s3://bucket/name@host", "s3://bucket/name@host/key"),
        ("s3://bucket/run#1?x", "s3://bucket/run#1?x/key"),
        ("file:///with%20a%20space/50%25", "/with a space/50%/key"),
        ("/with%20no/meaning", "/with%20no/meaning/key"),
        ("/a#b?c", "/a#b?c/key"),
    ],
)
def test_an_address_is_used_unchanged(address: str, uri: str) -> None:
    assert RunConfig(artifacts=address).artifacts == address
    assert open_store(address).uri("key") == uri


def test_a_file_uri_with_an_escaped_space_is_the_directory_with_the_space(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    put(open_store(place.as_uri()), "file.txt", b"content")
    assert "%20" in place.as_uri()
    assert (place / "file.txt").read_bytes() == b"content"


def test_a_relative_directory_is_unaffected_by_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("place")
    put(store, "file.txt", b"content")
    monkeypatch.chdir(tmp_path.parent)
    assert isinstance(store, LocalStore)
    assert store.uri("file.txt") == str(tmp_path / "place" / "file.txt")
    assert store.get("file.txt") == b"content"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("artifacts", None),
        ("s3://bucket", "http://127.0.0.1:9/bucket/runs/a%20b/report.html"),
        ("s3://bucket/some/prefix", "http://127.0.0.1:9/bucket/some/prefix/runs/a%20b/report.html"),
    ],
)
def test_a_file_in_a_bucket_has_an_address_at_its_endpoint_and_any_file_one_at_the_address_that_a_variable_names(
    address: str, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9/")
    store = open_store(address)
    assert url_of(store, "runs/a b/report.html") == url
    monkeypatch.setenv("MNIST_BP_ARTIFACTS_URL", " https://web.example/artifacts/ ")
    assert url_of(store, "runs/a b/report.html") == "https://web.example/artifacts/runs/a%20b/report.html"


@pytest.mark.parametrize("base", ["web.example", "ftp://host/", "https://user:hunter2@host/", "https://host/?hunter2"])
def test_an_address_for_links_of_another_form_is_refused_before_a_run_without_its_secret(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_ARTIFACTS_URL", base)
    with pytest.raises(ConfigError, match="MNIST_BP_ARTIFACTS_URL: expected http") as caught:
        preflight(RunConfig(dataset="mnist-sample"))
    assert "hunter2" not in str(caught.value)
