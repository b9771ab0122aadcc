"""`show RUN --config` and `train --config FILE`: a run is repeated bit for bit; files that cannot work are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnist_bp.cli.flags import TrainCommand, parse
from mnist_bp.cli.main import main
from mnist_bp.config import RunConfig
from mnist_bp.presets import PRESETS
from mnist_bp.storage.local import LocalStore
from tests.conftest import SMALL
from tests.support.published_runs import publish

FILE = "run.yaml"


def write(text: str) -> list[str]:
    """Write a file of settings, and return the flags that read it."""
    Path(FILE).write_text(text)
    return ["--config", FILE]


def settings_from(text: str, *flags: str) -> RunConfig:
    return parse(TrainCommand, [*write(text), *flags]).settings


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """Train a run, and return its id."""
    assert main(["train", *flags, "--json"]) == 0
    run_id: str = json.loads(capsys.readouterr().out)["run_id"]
    return run_id


def digests(artifacts: str, run_id: str) -> dict[str, str]:
    """Return the digests of a run's checkpoints and of its model, as its manifest has them."""
    files = json.loads(Path(artifacts, "runs", run_id, "manifest.json").read_text())["files"]
    return {name: file["sha256"] for name, file in files.items() if name.endswith((".safetensors", ".onnx"))}


@pytest.mark.usefixtures("warm_caches", "own_signals")
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_a_run_is_repeated_bit_for_bit_from_its_printed_settings(
    json_flag: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ["--activation", "relu", "--initial", "scaled", "--schedule", "linear", "--shift", "1"]
    first = run(capsys, *SMALL, *recipe, "--learning-rate", "0.0123", "--seeds", "3,1,2", "--class-floor", "0.1")
    assert main(["show", first, "--config", *json_flag]) == 0
    flags = [*write(capsys.readouterr().out), "--artifacts", "elsewhere"]
    assert digests("elsewhere", run(capsys, *flags)) == digests("artifacts", first)
    assert len(digests("artifacts", first)) == 4
    settings = parse(TrainCommand, flags).settings
    assert settings.class_floor == 0.1
    assert (settings.dataset, settings.engine) == ("mnist-sample", "cpu")


def test_a_run_of_the_reference_engine_on_a_gpu_is_repeated_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = publish(LocalStore(Path("artifacts")), 1, changes={"engine": "reference", "device": "cuda"})
    assert main(["show", run_id, "--config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "cuda"  # --engine reference computes on the CPU


@pytest.mark.usefixtures("warm_caches", "own_signals")
def test_the_printed_settings_name_the_dataset_and_engine_that_were_used_and_no_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_BP_MIRRORS", "file:///nowhere/")
    monkeypatch.setattr("mnist_bp.pipeline.DOWNLOAD_WAITS_S", ())
    first = run(capsys, *SMALL[2:])
    assert main(["show", first, "--config"]) == 0
    printed = capsys.readouterr().out
    names = [line.partition(":")[0] for line in printed.splitlines() if not line.startswith("#")]
    assert {"dataset: mnist-sample", "engine: cpu"} <= set(printed.splitlines())
    assert set(names) <= set(RunConfig.model_fields) - {"data_dir", "artifacts", "track", "certify", "epochs"}
    assert first in printed.splitlines()[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_a_file(preset: str) -> None:
    record = {name: value for name, value in PRESETS[preset].record.items() if value is not None}
    text = "\n".join(f"{name}: {json.dumps(value)}" for name, value in record.items())
    assert settings_from(text) == PRESETS[preset].model_copy(update={"artifacts": record["artifacts"]})


def test_flags_override_the_file_and_the_file_its_preset() -> None:
    text = "preset: relu-128\nhidden: 40\nseed: 3\n"
    assert settings_from(text) == PRESETS["relu-128"].model_copy(update={"hidden": 40, "seed": 3})
    assert settings_from(text, "--hidden", "50", "--seed", "4").hidden == 50
    assert settings_from("steps: 700", "--epochs", "1").steps == 6_000
    assert settings_from("epochs: 2", "--steps", "70").steps == 70
    assert settings_from("epochs: 2").steps == 12_000


def test_values_are_read_as_the_texts_of_flags() -> None:
    read = settings_from("seeds: 8\nlearning-rate: 1e-3\nallow_unsafe_promotion: yes\nminimum_gain: 0\n")
    assert (read.seed_list, read.learning_rate) == (tuple(range(1, 9)), 0.001)
    assert read.allow_unsafe_promotion
    assert settings_from("seeds: 3,5,8").seed_list == (3, 5, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stepps: 3", "run.yaml line 1: 'stepps' is no setting; did you mean steps? see mnist-bp train --help"),
        ("seed: 1\nxyzzy: 3", "run.yaml line 2: 'xyzzy' is no setting; see mnist-bp train --help"),
        ("resume: latest", "run.yaml line 1: 'resume' is no setting"),
        ("steps: 0", "run.yaml: --steps '0': expected at least 1; see --help"),
        ("steps: many", "run.yaml: --steps 'many': expected an integer; see --help"),
        ("steps:", "run.yaml: --steps '': expected an integer; see --help"),
        ("preset: lab-9", "run.yaml: --preset 'lab-9': expected 'lab-8-4', "),
        ("steps: 3\nepochs: 1", "run.yaml: --epochs and --steps: expected one of the two; see --help"),
        ("seed: 1\nseed: 2", "run.yaml line 2: seed is set twice; expected it once"),
        ("seed: 1\nseeds: [1, 2]", "run.yaml line 2: expected a file from mnist-bp show RUN --config"),
        ("? [a]\n: 1", "run.yaml line 1: expected a file from mnist-bp show"),
        ("seed: 1\nsteps: 2: 3", "run.yaml line 2: it is not YAML; expected a file from mnist-bp show RUN --config"),
        ("seed: *one", "run.yaml line 1: it is not YAML"),
        ("[" * 1_500, "run.yaml: it is not YAML"),
        ("\x00", "run.yaml: it is not YAML"),
        ("", "run.yaml: it has no settings; expected a file"),
        ("- 1", "run.yaml: it has no settings; expected a file"),
        ("artifacts: s3://user:secret@host", "run.yaml: --artifacts 's3://***@host': "),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_one_line(
    text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(TrainCommand, write(text))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --config {expected}")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ["--config", "missing.yaml"],
            "--config: cannot read missing.yaml: No such file or directory; expected a file",
        ),
        (["--config", "."], "--config: cannot read .: Is a directory; expected a file"),
        (["--config", "/dev/null"], "--config: /dev/null is a device, expected a regular file; expected a file"),
        (["--config", ""], "--config '': expected a value that is not empty; see --help"),
        (["--config", FILE, "--preset", "smoke"], "--config and --preset: expected one of the two; see --help"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("seed: 1")
    with pytest.raises(SystemExit) as ended:
        parse(TrainCommand, flags)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {expected}")


@pytest.mark.usefixtures("warm_caches", "own_signals")
def test_a_run_is_resumed_only_with_the_settings_of_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys, *SMALL)
    assert main(["train", *write("seed: 1\nsteps: 200"), "--resume", first]) == 0
    assert main(["train", *write("seed: 2"), "--resume", first]) == 2
    assert "seed" in capsys.readouterr().err
