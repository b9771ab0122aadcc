"""Values of the environment that become headers are checked before the first request, and never shown."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from mnist_bp.errors import StoreError
from mnist_bp.storage.address import open_store
from mnist_bp.storage.s3_errors import raising_store_errors
from tests.support.store_files import error_of

CANARY = "canary-5e1d"


@pytest.mark.parametrize("end", ["\N{RIGHT SINGLE QUOTATION MARK}", "\n", "\r", "\x1b"])
@pytest.mark.parametrize(
    "name",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_DEFAULT_REGION",
    ],
)
def test_a_control_character_in_a_variable_is_one_line_without_the_value(
    name: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(name, f"{CANARY}{end}")
    with pytest.raises(StoreError, match=f"{name} contains a line break") as raised:
        list(open_store("s3://bucket/prefix", attempts=1).list_entries(""))
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None


def files_of(directory: Path, environment: pytest.MonkeyPatch, credentials: str, config: str = "") -> None:
    """Write the AWS files of a user, and let the environment name them."""
    for name, text in (("AWS_SHARED_CREDENTIALS_FILE", credentials), ("AWS_CONFIG_FILE", config)):
        (directory / name).write_text(text)
        environment.setenv(name, str(directory / name))
    environment.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    environment.setenv("AWS_PROFILE", "night")


@pytest.mark.parametrize("name", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"])
def test_a_bad_value_in_the_credentials_file_is_one_line_with_its_name_and_profile(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", name: f"{CANARY}\u2019"}
    files_of(tmp_path, monkeypatch, "\n".join(["[night]", *(f"{each} = {value}" for each, value in values.items())]))
    error = error_of(lambda: open_store("s3://bucket/prefix", attempts=1).get("key"))
    assert f"{name} (shared-credentials-file, profile night) contains a line break" in str(error)
    assert CANARY not in "".join(traceback.format_exception(error))


def test_bad_values_of_a_program_and_of_the_configuration_file_are_named_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reply = {"Version": 1, "AccessKeyId": "key", "SecretAccessKey": "secret", "SessionToken": f"{CANARY}\r\n"}
    (tmp_path / "reply.json").write_text(json.dumps(reply))
    program = f"credential_process = cat {tmp_path / 'reply.json'}"
    files_of(tmp_path, monkeypatch, "", f"[profile night]\n{program}\n")
    error = error_of(lambda: open_store("s3://bucket/prefix", attempts=1).get("key"))
    assert "aws_session_token (custom-process, profile night) contains a line break" in str(error)
    assert CANARY not in "".join(traceback.format_exception(error))
    files_of(tmp_path, monkeypatch, "", f"[profile night]\nregion = {CANARY}\u2019\n")
    error = error_of(lambda: open_store("s3://bucket/prefix", attempts=1).get("key"))
    assert "region (config-file, profile night) contains a line break" in str(error)
    assert CANARY not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("error", [ValueError(CANARY), BotoCoreError(error=CANARY)])
def test_an_unknown_exception_is_reported_by_its_type(error: Exception) -> None:
    with pytest.raises(StoreError, match=type(error).__name__) as raised, raising_store_errors("cannot read"):
        raise error
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None
