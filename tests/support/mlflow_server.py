"""MLflow's own server, on SQLite and a directory, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.support.s3_servers import free_port
from tests.support.waiting import HANG_S, eventually


@contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """Run a server until the block ends, and yield its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    storage = ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db", "--artifacts-destination", str(directory)]
    command = [sys.executable, "-m", "mlflow", "server", *storage, "--host", "127.0.0.1", "--port", str(port)]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--workers", "1"], env={**os.environ, **settings}, stdout=output, stderr=subprocess.STDOUT
        )

    def replies() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.HTTPError:
            return False

    try:
        eventually(replies, f"MLflow does not reply: {log}")
        yield url
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(HANG_S)
        for child in psutil.wait_procs(children, timeout=HANG_S)[1]:
            child.kill()
