"""Credentials are written nowhere, however much is logged and however a run ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.s3_servers import admin_client, environment_of, serve
from tests.support.scripts import SCRIPT
from tests.support.waiting import HANG_S

TOKEN = "canary-session-token-3b1f"

EVERYTHING_LOGGED = {
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
    "PREFECT_LOGGING_SERVER_LEVEL": "DEBUG",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "boto3,botocore,urllib3,httpx,httpcore,mnist_bp",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
}


@pytest.mark.slow
@pytest.mark.parametrize("right", [True, False], ids=["published", "refused"])
def test_credentials_are_in_no_log_no_file_and_no_database(right: bool, home: Path, tmp_path: Path) -> None:
    """Everything is logged at DEBUG, to the console and to Prefect's database. Credentials include a session token."""
    with serve("rclone", tmp_path / "server") as server, admin_client(server) as client:
        client.create_bucket(Bucket="runs")
        secret = server.secret_key if right else "canary-secret-key-77e2"
        given = {**environment_of(server), "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": TOKEN}
        place = {"PREFECT_HOME": str(home), "MNIST_BP_DATA_DIR": str(tmp_path / "data")}
        ended = subprocess.run(
            [sys.executable, SCRIPT, "--preset", "smoke", "--artifacts", "s3://runs/some"],
            env={**os.environ, **EVERYTHING_LOGGED, **given, **place},
            cwd=tmp_path,
            capture_output=True,
            timeout=HANG_S,
        )
    assert ended.returncode == (0 if right else 1), ended.stderr.decode()
    assert b"DEBUG" in ended.stdout + ended.stderr
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(name.endswith("prefect.db") for name in written)
    assert any(name.endswith("manifest.json") for name in written) == right
    for name, content in {**written, "stdout": ended.stdout, "stderr": ended.stderr}.items():
        for canary in (secret, TOKEN):
            assert canary.encode() not in content, f"{canary} is in {name}"
