"""Values of the environment that become headers are checked before the first request, and never shown."""

from __future__ import annotations

import pytest
from botocore.exceptions import BotoCoreError

from mnist_bp.errors import StoreError
from mnist_bp.storage.address import open_store
from mnist_bp.storage.s3_errors import raising_store_errors

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
        "AWS_REGION",
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
        list(open_store("s3://bucket/prefix").list_entries(""))
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("error", [ValueError(CANARY), BotoCoreError(error=CANARY)])
def test_an_unknown_exception_is_reported_by_its_type(error: Exception) -> None:
    with pytest.raises(StoreError, match=type(error).__name__) as raised, raising_store_errors("cannot read"):
        raise error
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None
