"""`mnist-bp train`: the pipeline without Prefect."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mnist_bp import pipeline
from mnist_bp.cli.main import main
from mnist_bp.data.datasets import DATASETS
from tests.conftest import SMALL
from tests.support.bad_http import BadHttp, status
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.usefixtures("warm_caches", "own_signals")


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are recorded instead of slept."""
    waits: list[float] = []
    monkeypatch.setattr("mnist_bp.pipeline.time.sleep", waits.append)
    return waits


def run_json(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main(["train", *flags, "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_a_run_on_certified_code_imports_neither_torch_nor_prefect_nor_a_plotting_library() -> None:
    script = f"""
import sys
from mnist_bp.cli.main import main
assert main(["train", *{SMALL}]) == 0
print(sorted({{"torch", "prefect", "matplotlib", "pandas", "torchvision", "boto3"}} & set(sys.modules)))
"""
    imported, certificates = [], []
    for _ in range(2):  # the first may certify
        before = manifests()
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        imported.append(found.stdout.splitlines()[-1])
        (manifest,) = manifests() - before
        certificates.append(json.loads(manifest.read_text())["certificate"])
    assert imported[0] in ("[]", "['torch']")
    assert imported[1] == "[]"
    first, second = certificates
    assert second == first | {"reused": True}
    assert second["passed"]
    assert f"certified on {second['at'][:10]}: " in found.stderr


def test_a_run_is_certified_again_if_it_is_asked_for_and_its_manifest_states_the_date_alone() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert main(["train", *SMALL]) == 0
    (earlier,) = manifests()
    assert main(["train", *SMALL, "--certify", "always"]) == 0
    (later,) = manifests() - {earlier}
    manifest = json.loads(later.read_text())
    assert not manifest["certificate"]["reused"]
    assert datetime.fromisoformat(manifest["certificate"]["at"]) >= before
    assert "certify" not in manifest["config"]


def manifests() -> set[Path]:
    return set(Path("artifacts/runs").glob("*/manifest.json"))


def test_stderr_shows_each_stage_and_stdout_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not re.match("train       (compiling|certifying) ", line)]  # once
    assert [line.split()[0] for line in lines] == [
        "download", "preprocess", *["train"] * 4, *["evaluate"] * 2, "upload", "promote",
    ]  # fmt: skip
    assert "lab correct of 1,000" in out
    (directory,) = Path("artifacts/runs").iterdir()
    figures, promotion, report = out.splitlines()[-3:]
    assert re.fullmatch(r"accuracy       0\.\d{4} on all test images", figures)
    assert promotion == "promotion      promoted: the first champion of mnist-sample"
    assert report == f"report         {directory.absolute().as_uri()}/report.html"


def test_an_interrupted_run_is_found_and_is_resumed_by_the_command_in_its_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [sys.executable, "-m", "mnist_bp", "train", *SMALL, "--engine", "reference", "--steps", "6000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("train       step"):
                break
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=HANG_S)
    assert run.returncode == 130
    kept, named = err.splitlines()[-2:]
    assert kept == "error: interrupted; the run is kept; resume it with:"
    (directory,) = Path("data/runs").iterdir()
    Path("artifacts", "something else").touch()  # no store yet, if the run did not show that the address is right
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out
    assert re.search(rf"{directory.name} +mnist-sample +reference +interrupted after step [\d,]+ of 6,000\n", listed)
    assert listed.endswith("\nresume an interrupted run with:\nmnist-bp train --resume RUN\n")
    assert main(["show", directory.name]) == 0
    shown = capsys.readouterr().out
    assert "of 6,000; not published\n" in shown
    assert shown.endswith(f"\nresume it with:\nmnist-bp train --resume {directory.name}\n")
    continued = subprocess.run(
        [*shlex.split(named), "--json"], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert json.loads(continued.stdout)["run_id"] == directory.name
    lines = [line for line in continued.stderr.splitlines() if line.startswith("train ")]
    assert re.fullmatch(r"train       resuming at step [\d,]+ of 6,000", lines[1])  # before the engine is checked
    assert main(["runs", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert ([run["run_id"] for run in report["runs"]], report["interrupted"]) == ([directory.name], [])


def test_a_published_run_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = run_json(capsys, *SMALL)["run_id"]
    assert main(["train", "--resume", run_id]) == 0
    report = Path(f"artifacts/runs/{run_id}/report.html").absolute()
    assert capsys.readouterr().out == f"report         {report.as_uri()}\n"
    assert run_json(capsys, "--resume", run_id) == {
        "run_id": run_id,
        "finished": "published already",
        "manifest": str(Path(f"artifacts/runs/{run_id}/manifest.json").absolute()),
    }


def test_bad_usage_is_one_line_under_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--steps", "0"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --steps '0': expected at least 1; see --help\n"
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert capsys.readouterr().out.startswith("usage: mnist-bp train ")


def test_a_download_from_an_overloaded_mirror_is_retried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_waits: list[float]
) -> None:
    with BadHttp({}) as mirror:
        mirror.faults[DATASETS["mnist"].files[0].name] = [status(503)] * 10
        monkeypatch.setenv("MNIST_BP_MIRRORS", mirror.url)
        assert main(["train", *SMALL[2:], "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["dataset"] == "mnist-sample"
    lines = [line for line in err.splitlines() if "failed" in line]
    for number, line in enumerate(lines, start=1):
        assert line.startswith(f"download: attempt {number} of 4 failed: ")
    assert len(lines) == 3
    assert all(least <= wait <= 1.5 * least for least, wait in zip(pipeline.DOWNLOAD_WAITS_S, no_waits, strict=True))


def test_a_deterministic_failure_is_not_retried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_waits: list[float]
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", "file:///no/such/place/")
    assert main(["train", "--dataset", "mnist"]) == 1
    assert "No such file" in capsys.readouterr().err
    assert no_waits == []
