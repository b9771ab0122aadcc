"""S3 servers on free ports of this machine, each a process that ends with its `with` block.

with serve("rclone", directory) as server, admin_client(server) as client:
    client.create_bucket(Bucket="runs")
    os.environ.update(environment_of(server))
    open_store("s3://runs").put("key", b"content", sha256)

rclone      keeps objects as files; ignores conditions
moto        keeps objects in memory; honours conditions
minio       keeps objects on disk; honours conditions; tests use it if it is installed: make servers
versitygw   keeps objects as files, on a filesystem with extended attributes; honours conditions; likewise
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import boto3.session
from botocore.config import Config

from tests.support.waiting import HANG_S, under_load

END_TIMEOUT_S: Final = 10

REGION: Final = "us-east-1"
START_ATTEMPTS: Final = 3
BUILT_BY_GO: Final = ("minio", "versitygw")


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Args:
        name: One of `present_servers`.
        endpoint: Address, such as http://127.0.0.1:43210.
        access_key: The one access key that it accepts.
        secret_key: Secret that belongs to the access key.
        directory: Directory of its buckets.
    """

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    directory: Path

    @property
    def honours_conditions(self) -> bool:
        """Whether writes with If-Match and If-None-Match are refused if the condition does not hold."""
        return self.name != "rclone"


def _rclone(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    """Return the command; each subdirectory of the directory is a bucket."""
    auth_key = f"{server.access_key},{server.secret_key}"
    options = ["--config", "", "--auth-key", auth_key, "--addr", address]  # "" is no file at all
    return [program, "serve", "s3", *options, str(server.directory)], {}


def _minio(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    """Return the command; the port of MinIO's web pages would be chosen at random, at times the same as the store's."""
    credentials = {"MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key}
    other = next(port for port in iter(free_port, None) if not address.endswith(f":{port}"))
    options = ["--address", address, "--console-address", f"127.0.0.1:{other}"]
    return [program, "server", str(server.directory), *options], {**credentials, "MINIO_BROWSER": "off"}


def _versitygw(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    """Return the command; as for rclone, and ETags are extended attributes of the files."""
    credentials = {"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
    return [program, "--port", address, "--quiet", "posix", str(server.directory)], credentials


def _moto(program: str, server: S3Server, address: str) -> tuple[list[str], dict[str, str]]:
    """Return the command; signatures are not checked before `_make_user` has made the user."""
    host, _, port = address.partition(":")
    command = [program, "-m", "tests.support.moto_server", host, port]
    return command, {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "INITIAL_NO_AUTH_ACTION_COUNT": str(_ACTIONS_OF_MAKE_USER),
    }


_ACTIONS_OF_MAKE_USER: Final = 3


def _make_user(server: S3Server) -> S3Server:
    """Create moto's first user, who may do everything; later requests need a user's signature."""
    return user_with_rights(server, "tests", ["s3:*", "iam:*"])


def user_with_rights(server: S3Server, name: str, rights: Sequence[str]) -> S3Server:
    """Create a user of moto's server.

    Args:
        server: The server, with the keys of a user who may create others.
        name: Name of the user.
        rights: Actions that the user may do on everything, such as s3:GetObject.

    Returns:
        The server with the keys of the user.
    """
    session = boto3.session.Session(server.access_key, server.secret_key, region_name=REGION)
    iam = session.client("iam", endpoint_url=server.endpoint)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [*rights], "Resource": "*"}]}
    try:
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
    finally:
        iam.close()
    return replace(server, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])


_PROGRAMS: Final = {"moto": sys.executable}  # the others have the name of the server

_COMMANDS: Final[Mapping[str, Callable[[str, S3Server, str], tuple[list[str], dict[str, str]]]]] = {
    "rclone": _rclone,
    "moto": _moto,
    "minio": _minio,
    "versitygw": _versitygw,
}


def find_program(name: str) -> str | None:
    """Return the path of a program in the interpreter's directory, or else on PATH."""
    return shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def present_servers() -> list[str]:
    """List the servers to test with: those of the locked environment, and those that Go builds if they are installed.

    Raises:
        RuntimeError: One of the latter is missing with CI=true, although Go is installed.
    """
    missing = [name for name in BUILT_BY_GO if find_program(name) is None]
    if missing and os.environ.get("CI") == "true" and shutil.which("go"):
        names = " and ".join(missing)
        raise RuntimeError(f"{names} not found on PATH or in the interpreter's directory, CI=true: run make servers")
    return ["rclone", "moto", *(name for name in BUILT_BY_GO if name not in missing)]


def few_servers() -> list[str]:
    """List the servers for tests whose claim is about this project's requests, and not about a server."""
    return [name for name in present_servers() if name in ("moto", "minio")]


@contextmanager
def serve(name: str, directory: Path, *, end_with: signal.Signals = signal.SIGTERM) -> Iterator[S3Server]:
    """Run a server until the block ends.

    Args:
        name: One of `present_servers`.
        directory: Directory of its buckets; created if it is missing; may hold those of an earlier server.
        end_with: Signal that ends it; SIGKILL leaves it no time to clean up.

    Raises:
        RuntimeError: It is not installed, or did not start; with its log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = find_program(_PROGRAMS.get(name, name))
    if program is None:
        raise RuntimeError(f"{name} is missing in the directory of {sys.executable} and on PATH: run make setup")
    for attempt in range(1, START_ATTEMPTS + 1):  # another process may take a port that was free
        address = f"127.0.0.1:{free_port()}"
        server = S3Server(name, f"http://{address}", "mnist-bp-tests", "only-the-tests-know-this", directory)
        process = _start(*_COMMANDS[name](program, server, address))
        try:
            _wait_until_ready(process, address)
            break
        except RuntimeError:
            _end(process, signal.SIGKILL)
            if attempt == START_ATTEMPTS:
                raise
    try:
        yield _make_user(server) if name == "moto" else server
    finally:
        _end(process, end_with)


def _start(command: list[str], settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server whose output goes to a file that is `process.stdout`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MINIO_", "RCLONE_"))}
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_end`
    process = subprocess.Popen(
        command, env={**inherited, **settings}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    process.stdout = log
    return process


def _end(process: subprocess.Popen[bytes], end_with: signal.Signals) -> None:
    process.send_signal(end_with)
    try:
        process.wait(under_load(END_TIMEOUT_S))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def environment_of(server: S3Server) -> dict[str, str]:
    """Return the environment variables with which the library uses a server."""
    return {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_DEFAULT_REGION": REGION,
    }


@contextmanager
def admin_client(server: S3Server) -> Iterator[Any]:
    """Open a boto3 client for tests, to create buckets and to read their contents."""
    session = boto3.session.Session(server.access_key, server.secret_key, region_name=REGION)
    client = session.client("s3", endpoint_url=server.endpoint, config=Config(s3={"addressing_style": "path"}))
    try:
        yield client
    finally:
        client.close()


def free_endpoint() -> str:
    """Return an address on this machine without a listener."""
    return f"http://127.0.0.1:{free_port()}"


def free_port() -> int:
    """Return a port of this machine without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + HANG_S
    while process.poll() is None and time.monotonic() < deadline:
        if _is_ready(address):
            return
        time.sleep(0.02)
    state = "is still starting" if process.poll() is None else f"ended with code {process.returncode}"
    assert process.stdout is not None
    process.stdout.seek(0)
    raise RuntimeError(f"{process.args!r} {state}; its log:\n{process.stdout.read().decode(errors='replace')}")


def _is_ready(address: str) -> bool:
    """Return whether the server answers; a refusal counts, "still starting" (503) does not."""
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/moto-api/")  # for the other servers, a bucket that they refuse to list
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
