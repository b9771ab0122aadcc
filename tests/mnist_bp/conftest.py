"""What the library's tests share: S3 servers that run for the whole session, and a bucket for each test; a nursery."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.killed_runs import Nursery
from tests.s3_servers import S3Server, admin_client, environment_of, present_servers, serve


@pytest.fixture(scope="session", params=present_servers())
def s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One real S3 server after the other: rclone, moto, and MinIO where there is one."""
    with serve(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture(scope="session")
def s3_admin(s3_server: S3Server) -> Iterator[Any]:
    """A boto3 client that sees the server as it is, whatever the environment says."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        with admin_client(s3_server) as client:
            environment.undo()
            yield client


@pytest.fixture
def s3_bucket(s3_server: S3Server, s3_admin: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a fresh bucket, with the environment set for it; `_own_environment`, being autouse, came before."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_admin.create_bucket(Bucket=bucket)
    for name, value in environment_of(s3_server).items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that forks runs, for the session: it takes seconds to warm up."""
    with Nursery() as nursery:
        yield nursery
