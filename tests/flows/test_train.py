"""The flow and the script, on a real Prefect server."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

import mnist_bp.cli.main
from flows.runtime import script
from flows.train import train
from mnist_bp.cli.console import progress_bar
from mnist_bp.config import RunConfig
from mnist_bp.data.datasets import DATASETS
from mnist_bp.errors import DownloadError, StoreError
from mnist_bp.pipeline import no_progress_bar
from mnist_bp.results.dataset import RawDataset
from mnist_bp.storage.local import LocalStore
from mnist_bp.summary import RunSummary
from tasks.ui import show_progress_with
from tests.conftest import SMALL
from tests.support.bad_http import BadHttp, status
from tests.support.fault_proxy import LOST_REPLY, Fault, FaultProxy
from tests.support.prefect_records import artifacts_of, logs_of, newest_flow_run, task_runs_of
from tests.support.prometheus import gauges_of

pytestmark = pytest.mark.usefixtures("prefect_server", "own_signals", "warm_caches")


def main(flags: list[str]) -> int:
    return script.main(train, flags)


def run_json(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main([*flags, "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


DIFFERS_BY_TIME = {
    "run_id", "checksum", "created", "seconds", "train_seconds", "steps_per_second", "at", "manifest_sha256",
    "champion_after", "log_entry", "history.parquet", "report.html", "published_bytes",
}  # fmt: skip
"""Keys whose values differ between two equal runs: ids, times, durations, and what contains them."""


def without_time(record: object) -> object:
    """A manifest or a summary without the values that differ between two equal runs."""
    match record:
        case dict():
            return {key: without_time(value) for key, value in record.items() if key not in DIFFERS_BY_TIME}
        case list():
            return [without_time(each) for each in record]
    return record


def assert_one_line_error(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    for part in parts:
        assert part in line


# --- the flow ----------------------------------------------------------------


def test_a_run_is_six_tasks_in_order_with_a_table_and_a_summary_in_the_ui(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run_json(capsys, *SMALL, "--seed", "5")
    run = newest_flow_run()
    assert run.state_name == "Completed"
    assert run.name == "mnist-sample-cpu-seed5"
    assert run.tags == ["dataset:mnist-sample", "engine:cpu", "seed:5"]
    tasks = task_runs_of(run)
    assert [task.name for task in tasks] == [
        "download-mnist-sample",
        "preprocess-mnist-sample",
        "train-mnist-sample-seed5",
        "evaluate-mnist-sample",
        f"upload-{printed['run_id']}",
        f"promote-{printed['run_id']}",
    ]
    assert {task.state_name for task in tasks} == {"Completed"}

    assert "evaluate    step       200  accuracy" in "\n".join(logs_of(run))
    artifacts = artifacts_of(run)
    rows = json.loads(str(artifacts["accuracy-per-checkpoint"].data))
    assert [row["step"] for row in rows] == ["100", "200"]
    assert rows[-1]["accuracy"] == f"{printed['accuracy']:.4f}"
    assert printed["run_id"] in str(artifacts["run-summary"].data)
    assert f"{printed['artifacts']}/report.html" in str(artifacts["run-summary"].data)
    assert str(artifacts["run-summary"].description).startswith(f"{printed['accuracy']:.4f}, ")
    assert printed["run_id"] in str(artifacts["accuracy-over-nights-mnist-sample"].data)


def test_a_flow_run_writes_gauges_for_prometheus(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_METRICS", str(tmp_path))
    printed = run_json(capsys, *SMALL, "--seed", "6")
    gauges = gauges_of(tmp_path)
    assert gauges["mnist_bp_accuracy", "mnist-sample"] == printed["accuracy"]
    assert {name[2] for name in gauges if len(name) == 3} == {
        "download", "preprocess", "train", "evaluate", "upload", "promote",
    }  # fmt: skip


class FinalStateProxy(FaultProxy):
    """A proxy to Prefect's server that loses its first reply to the final state of the flow run."""

    def draw(self, method: str, path: str) -> Fault | None:
        self.requests.append((method, path, None))
        proposals = [path for _, path, _ in self.requests if re.fullmatch("/api/flow_runs/[^/]+/set_state", path)]
        return LOST_REPLY if path in proposals and len(proposals) == 2 else None  # Running, and the final state


def test_a_lost_reply_to_the_final_state_loses_neither_the_result_nor_the_summary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prefect proposes the state again, and the server's answer has no result then."""
    url = str(PREFECT_API_URL.value())
    with (
        FinalStateProxy(url.removesuffix("/api")) as proxy,
        temporary_settings({PREFECT_API_URL: f"{proxy.endpoint}/api"}),
    ):
        printed = run_json(capsys, *SMALL, "--seed", "6")
    run = newest_flow_run()
    assert run.state_name == "Completed"
    assert printed["run_id"] in str(artifacts_of(run)["run-summary"].data)


def test_json_output_and_manifest_describe_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run_json(capsys, *SMALL)
    manifest = json.loads(Path(printed["manifest"]).read_text())
    assert manifest["run_id"] == printed["run_id"]
    assert manifest["dataset"]["name"] == printed["dataset"] == "mnist-sample"
    assert manifest["config"]["steps"] == printed["steps"] == 200
    assert (printed["engine"], printed["seed"]) == ("cpu", 1)
    assert printed["steps_per_second"] == pytest.approx(200 / printed["train_seconds"])
    for printed_point, recorded in zip(printed["checkpoints"], manifest["checkpoints"], strict=True):
        assert printed_point["sha256"] == manifest["files"][recorded["file"]]["sha256"]
        assert printed_point["accuracy"] == recorded["accuracy"]
    assert printed["accuracy"] == printed["checkpoints"][-1]["accuracy"]
    for name, proof in manifest["files"].items():
        content = (Path(printed["artifacts"]) / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (proof["sha256"], proof["size"])


def test_without_prefect_manifest_and_summary_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    flows = run_json(capsys, *SMALL, "--artifacts", "flows")
    assert mnist_bp.cli.main.main(["train", *SMALL, "--artifacts", "ours", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    manifests = [json.loads(Path(each["manifest"]).read_text()) for each in (ours, flows)]
    for one, other in [(ours, flows), manifests]:
        same = json.dumps(without_time(one)).replace(ours["run_id"], "").replace("ours", "flows")
        assert same == json.dumps(without_time(other)).replace(flows["run_id"], "")
    assert [sorted(each["files"]) for each in manifests] == [sorted(manifests[0]["files"])] * 2
    digests = [{k: v["sha256"] for k, v in each["files"].items() if k.startswith("checkpoints/")} for each in manifests]
    assert digests[0] == digests[1]


def test_the_settings_that_a_command_line_run_prints_are_repeated_by_the_flow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [*SMALL, "--seed", "7", "--learning-rate", "0.3", "--json"]
    assert mnist_bp.cli.main.main(["train", *flags]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert mnist_bp.cli.main.main(["show", ours["run_id"], "--config"]) == 0
    Path("run.yaml").write_text(capsys.readouterr().out)
    assert run_json(capsys, "--config", "run.yaml")["checkpoints"] == ours["checkpoints"]


def test_a_second_run_finds_its_caches_and_makes_the_same_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data")
    first, second = run_json(capsys, *SMALL), run_json(capsys, *SMALL)
    assert first["cache"] == {"download": "miss", "preprocess": "miss"}
    assert second["cache"] == {"download": "hit", "preprocess": "hit"}
    assert second["run_id"] != first["run_id"]
    assert second["checkpoints"] == first["checkpoints"]


def test_a_damaged_cache_is_rebuilt_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    first = run_json(capsys, *SMALL)
    for path in Path("data/parquet").rglob("train.parquet"):
        path.write_bytes(path.read_bytes()[:-1])
    assert main([*SMALL, "--json"]) == 0
    out, err = capsys.readouterr()
    (warning,) = [line for line in err.splitlines() if "could not be used and has been rebuilt" in line]
    assert re.search(r"it has [\d,]+ bytes, expected [\d,]+$", warning)  # and nothing about what a later run does
    assert "\npreprocess  mnist-sample: rebuilt, 4,000 + 1,000 images" in err
    assert json.loads(out)["cache"] == {"download": "hit", "preprocess": "rebuilt"}
    assert json.loads(out)["checkpoints"] == first["checkpoints"]


def test_without_json_a_table_and_the_paths_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    out, err = capsys.readouterr()
    assert "lab correct of 1,000" in out
    assert str(Path("artifacts/runs").absolute()) in out
    assert "evaluate    step       200  accuracy" in err


def test_auto_falls_back_to_the_sample_with_a_notice_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", "http://127.0.0.1:9/")
    assert main([*SMALL[2:], "--json"]) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    manifest = json.loads(Path(printed["manifest"]).read_text())
    assert printed["dataset"] == manifest["dataset"]["name"] == "mnist-sample"
    for notice in (err, printed["notice"], manifest["dataset"]["notice"]):
        assert "NOT comparable" in notice
        assert "127.0.0.1:9" in notice
    assert newest_flow_run().name == "mnist-sample-cpu-seed1"
    assert "dataset:mnist-sample" in newest_flow_run().tags
    assert "Not MNIST" in str(artifacts_of(newest_flow_run())["run-summary"].data)


def test_auto_retries_an_overloaded_mirror_before_it_falls_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with BadHttp({}) as mirror:
        first = DATASETS["mnist"].files[0].name
        mirror.faults[first] = [status(503)] * 10
        monkeypatch.setenv("MNIST_BP_MIRRORS", mirror.url)
        printed = run_json(capsys, *SMALL[2:])
    assert printed["dataset"] == "mnist-sample"
    assert "HTTP 503" in printed["notice"]
    download, *_ = task_runs_of(newest_flow_run())
    assert (download.run_count, len(mirror.requests)) == (4, 4)


def test_a_terminal_shows_training_progress() -> None:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True, force_interactive=True)
    show_progress_with(partial(progress_bar, console))
    try:
        train(RunConfig(dataset="mnist-sample", steps=20_000, engine="reference"))  # the slowest engine: some seconds
    finally:
        show_progress_with(no_progress_bar)
    drawn = {int(number.replace(",", "")) for number in re.findall(r"([\d,]+)/20,000", text.getvalue())}
    assert drawn & {*range(1_000, 20_000, 1_000)}


def test_auto_is_mnist_where_a_mirror_has_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mnist_mirrors: str
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", mnist_mirrors)
    printed = run_json(capsys, "--steps", "10")
    assert (printed["dataset"], printed["notice"]) == ("mnist", None)
    assert newest_flow_run().name == "mnist-cpu-seed1"


def test_the_script_keeps_its_signal_handlers_though_prefect_replaces_them_when_a_flow_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prefect turns SIGTERM into an exception, which is lost if it is raised in a callback."""
    seen: dict[int, object] = {}

    def look(config: RunConfig, notice: str | None) -> RawDataset:
        seen.update({number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)})
        raise StoreError("seen enough")

    monkeypatch.setattr("flows.train.download", look)
    assert main(SMALL) == 1
    assert seen[signal.SIGINT] is seen[signal.SIGTERM] is signal.getsignal(signal.SIGTERM)


# --- failures ----------------------------------------------------------------


def test_mnist_never_falls_back_and_every_mirror_is_listed_with_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", "file:///no/such/place/ file:///nor/here")
    assert main(["--dataset", "mnist"]) == 1
    assert_one_line_error(capsys, "file:///no/such/place/train-images", "file:///nor/here/train-images", "No such file")
    assert [task.name for task in task_runs_of(newest_flow_run())] == ["download-mnist"]


@pytest.mark.parametrize(
    ("flags", "code", "parts"),
    [
        (["--batch-size", "4001"], 2, ["batch size 4001", "4000"]),
        (["--validation-examples", "4000"], 2, ["4000 validation examples", "at most 3990"]),
        (["--artifacts", "/dev/null/artifacts"], 1, ["write /dev/null/artifacts: /dev/null is a file"]),
        (["--data-dir", "/dev/null/data"], 1, ["write /dev/null/data: /dev/null is a file"]),
        (["--artifacts", "s3://bucket/prefix"], 1, ["s3://bucket/prefix", "credentials"]),
    ],
)
def test_a_run_that_cannot_succeed_is_refused_before_any_task_runs(
    flags: list[str], code: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *flags]) == code
    out, err = capsys.readouterr()
    first, line = err.splitlines()  # no line of a download
    assert (out, first) == ("", "starting    the Prefect flow mnist-bp")
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert newest_flow_run().state_name == "Failed"


def test_a_bad_default_in_the_environment_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_ARTIFACTS", "gs://bucket")
    with pytest.raises(SystemExit) as caught:
        main(SMALL)
    assert caught.value.code == 2
    assert_one_line_error(capsys, "gs://bucket", "s3://bucket/prefix")


def test_a_diverged_run_stops_names_its_step_and_keeps_its_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--seed", "2", "--checkpoint-every", "1", "--learning-rate", "3e38"]) == 1
    assert_one_line_error(capsys, "diverged at step", "smaller learning rate", str(Path("data/runs").absolute()))
    kept = list(Path("data/runs").rglob("step-*.safetensors"))
    assert kept
    assert not Path("artifacts/runs").exists()


def test_a_transport_fault_is_retried_and_a_deterministic_failure_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", "http://127.0.0.1:9/")
    with pytest.raises(DownloadError, match="cannot be reached"):
        train(RunConfig(dataset="mnist"))
    (download,) = task_runs_of(newest_flow_run())
    assert download.run_count == 4

    monkeypatch.setenv("MNIST_BP_MIRRORS", Path("mirror").absolute().as_uri())
    Path("mirror").mkdir()
    for file in DATASETS["mnist"].files:
        (Path("mirror") / file.name).write_bytes(b"not MNIST")
    with pytest.raises(DownloadError, match="expected 440fcabf"):
        train(RunConfig(dataset="mnist"))
    (download,) = task_runs_of(newest_flow_run())
    assert download.run_count == 1


def test_an_interrupted_upload_is_finished_by_resuming_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = LocalStore.put, []

    def interrupted_put(store: LocalStore, key: str, source: Path | bytes, sha256: str) -> None:
        calls.append(key)
        if len(calls) == 3:
            raise StoreError(f"cannot write {key}: connection reset", transient=True)
        put(store, key, source, sha256)

    monkeypatch.setattr(LocalStore, "put", interrupted_put)
    with pytest.raises(StoreError, match="connection reset"):
        train(RunConfig(dataset="mnist-sample", steps=100, checkpoint_every=50))
    (directory,) = Path("data/runs").iterdir()
    assert not list(Path("artifacts").rglob("manifest.json"))
    failed = newest_flow_run()
    assert (failed.name, failed.tags) == (
        "mnist-sample-cpu-seed1", ["dataset:mnist-sample", "engine:cpu", "seed:1"]
    )  # fmt: skip
    summary = train(RunConfig(), resume=directory.name)
    assert isinstance(summary, RunSummary)
    assert summary.run_id == directory.name
    assert newest_flow_run().name == "mnist-sample-cpu-seed1"
    assert Path(summary.manifest).exists()
    assert Path(summary.manifest).with_name("promotion.json").exists()
