"""Real S3 servers on free ports of this machine, each a separate process that ends with its `with` block.

with serve("rclone", directory) as server, admin_client(server) as client:
    client.create_bucket(Bucket="runs")
    os.environ.update(environment_of(server))
    open_store("s3://runs").put("key", b"content", sha256)

rclone   keeps objects as files, so that they survive its death; ignores conditions
moto     honours conditions; keeps everything in memory
minio    honours conditions, keeps objects; is tested with where there is one: make minio
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import boto3.session
from botocore.config import Config

START_SECONDS: Final = 20
END_SECONDS: Final = 10

REGION: Final = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A server that runs.

    Args:
        name: Which: `rclone`, `moto` or `minio`.
        endpoint: Its address, such as http://127.0.0.1:43210.
        access_key: What it lets in.
        secret_key: What requests are signed with.
        directory: Where it keeps its buckets.
    """

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    directory: Path

    @property
    def honours_conditions(self) -> bool:
        """Whether If-Match and If-None-Match do what they say, as far as is known."""
        return self.name != "rclone"


def _rclone(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    """Keep objects as plain files; the directory's subdirectories are the buckets."""
    auth_key = f"{server.access_key},{server.secret_key}"
    options = ["--config", "", "--auth-key", auth_key, "--addr", address]  # "" is no file at all
    return [program, "serve", "s3", *options, str(server.directory)], {}


def _minio(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    credentials = {"MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key}
    return [program, "server", str(server.directory), "--address", address], credentials


def _moto(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    """Check no signature until there is a user to check it by; see `_make_user`."""
    host, _, port = address.partition(":")
    command = [program, "-m", "tests.support.moto_server", host, port]
    return command, {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "INITIAL_NO_AUTH_ACTION_COUNT": str(_ACTIONS_OF_MAKE_USER),
    }


_ACTIONS_OF_MAKE_USER: Final = 3


def _make_user(server: S3Server) -> S3Server:
    """Make the one user that moto knows, from then on."""
    session = boto3.session.Session("unknown", "nothing", region_name=REGION)
    iam = session.client("iam", endpoint_url=server.endpoint)
    rights = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    try:
        iam.create_user(UserName="tests")
        iam.put_user_policy(UserName="tests", PolicyName="all", PolicyDocument=json.dumps(rights))
        key = iam.create_access_key(UserName="tests")["AccessKey"]
    finally:
        iam.close()
    return replace(server, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])


_PROGRAMS: Final = {"moto": sys.executable}  # by server; moto runs in tests.support.moto_server, one request at a time

_COMMANDS: Final[Mapping[str, Callable[[str, S3Server, str], tuple[list[str], dict[str, str]]]]] = {
    "rclone": _rclone,
    "moto": _moto,
    "minio": _minio,
}


def find_program(name: str) -> str | None:
    """Find a program next to the interpreter, where packages install theirs, otherwise on PATH."""
    return shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def present_servers() -> list[str]:
    """Name the servers to test with: what the locked environment brings, and MinIO where there is one.

    Raises:
        RuntimeError: MinIO is missing, though CI=true and Go could have built it.
    """
    minio = find_program("minio") is not None
    if not minio and os.environ.get("CI") == "true" and shutil.which("go"):
        raise RuntimeError("no minio on PATH or next to the interpreter, and CI=true: run make minio")
    return ["rclone", "moto", *(["minio"] if minio else [])]


@contextmanager
def serve(name: str, directory: Path, *, end_with: signal.Signals = signal.SIGTERM) -> Iterator[S3Server]:
    """Run a server until the block ends.

    Args:
        name: One of `present_servers`.
        directory: Where it keeps its buckets; may hold those of an earlier server.
        end_with: What ends it; SIGKILL leaves it no time to tidy up.

    Raises:
        RuntimeError: It is not installed, or did not come up; with its log.
    """
    program = find_program(_PROGRAMS.get(name, name))
    if program is None:
        raise RuntimeError(f"no {name} next to {sys.executable} or on PATH: run make setup")
    address = f"127.0.0.1:{free_port()}"
    server = S3Server(name, f"http://{address}", "mnist-bp-tests", "only-the-tests-know-this", directory)
    command, settings = _COMMANDS[name](program, server, address)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MINIO_", "RCLONE_"))}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, env={**inherited, **settings}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait_until_ready(process, address, log)
            yield _make_user(server) if name == "moto" else server
        finally:
            process.send_signal(end_with)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def environment_of(server: S3Server) -> dict[str, str]:
    """Name the variables that point the library at a server."""
    return {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_DEFAULT_REGION": REGION,
    }


@contextmanager
def admin_client(server: S3Server) -> Iterator[Any]:
    """Open a boto3 client of the tests' own, to make buckets and to see what is in them."""
    session = boto3.session.Session(server.access_key, server.secret_key, region_name=REGION)
    client = session.client("s3", endpoint_url=server.endpoint, config=Config(s3={"addressing_style": "path"}))
    try:
        yield client
    finally:
        client.close()


def free_endpoint() -> str:
    """Return an address on this machine that nothing listens on."""
    return f"http://127.0.0.1:{free_port()}"


def free_port() -> int:
    """Return a port on this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(address):
            return
        time.sleep(0.02)
    state = "is still starting" if process.poll() is None else f"ended with code {process.returncode}"
    log.seek(0)
    raise RuntimeError(f"{process.args!r} {state}; its log:\n{log.read().decode(errors='replace')}")


def _answers(address: str) -> bool:
    """Whether a request gets a proper answer; a refusal is one, "still starting" (503) is not."""
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/moto-api/")  # which for the others is a bucket that they refuse to show
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
