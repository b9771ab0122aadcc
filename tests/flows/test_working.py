"""How the worker of a process pool ends the processes of its runs, or ends by itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest
from prefect.workers.process import ProcessWorker

from deployments.worker import WorkerCommand
from flows.runtime.working import work_until_interrupted
from mnist_bp.cli.flags import parse
from mnist_bp.errors import MnistBpError
from tests.support.waiting import HANG_S

WORKER: Final = """
import subprocess, sys, threading, time
from flows.runtime.working import STOP_TIMEOUT_S, _end_runs

run = "import signal, time; signal.signal(signal.SIGTERM, {handler}); print(flush=True); time.sleep(600)"
on_sigterm = "lambda *_: (print(flush=True), time.sleep(1), exit(7))"
first = subprocess.Popen([sys.executable, "-c", run.format(handler=on_sigterm)], stdout=subprocess.PIPE)
first.stdout.readline()
second = []

def free_its_slot():
    first.stdout.readline()  # it has received SIGTERM
    second.append(subprocess.Popen([sys.executable, "-c", run.format(handler="signal.SIG_DFL")]))

slot = threading.Thread(target=free_its_slot)
slot.start()
begin = time.monotonic()
_end_runs()
in_time = time.monotonic() - begin < STOP_TIMEOUT_S
slot.join()
print(in_time, first.poll(), second[0].poll() is not None)
for process in (first, *second):
    process.kill()
"""
"""A worker with a run, whose end lets another one start."""


def test_a_run_that_starts_while_a_worker_ends_is_ended_too_and_the_worker_waits_no_longer() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert done.stdout.split()[-3:] == ["True", "7", "True"]


def test_the_help_of_the_worker_offers_no_json_which_it_does_not_print(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(WorkerCommand, ["--help"])
    out = capsys.readouterr().out
    assert "--pool" in out
    assert "--json" not in out


@pytest.mark.usefixtures("prefect_server")
def test_a_worker_that_gives_up_is_named_with_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    async def give_up(worker: ProcessWorker, *, with_healthcheck: bool) -> None:
        raise RuntimeError("Service exceeded error threshold.")  # Prefect's, without a server for some minutes

    monkeypatch.setattr(ProcessWorker, "start", give_up)
    with pytest.raises(MnistBpError, match=r"the worker of pool 'a' has ended \(RuntimeError\): start it again"):
        work_until_interrupted("a", with_healthcheck=False)
