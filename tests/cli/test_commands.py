"""`mnist-bp`: the output of each command, and its answer to bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from deployments.serve import ServeCommand
from mnist_bp.cli.flags import Command, TrainCommand, parse
from mnist_bp.cli.main import COMMANDS, main
from mnist_bp.cli.reproduce import PUBLISHED
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.code import code_sha256
from mnist_bp.registry.log_entries import entry_key
from mnist_bp.results.dataset import CachedDataset
from mnist_bp.storage.address import open_store
from mnist_bp.storage.local import LocalStore
from tests.engines.test_certificate import with_recipe
from tests.support.challenges import challenge, publish_model
from tests.support.published_runs import promote, publish, put_promotion, run_id_of


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {command} " in printed for command in COMMANDS)
    assert max(map(len, printed.splitlines())) <= 80


PYTHON_WORDS = re.compile(r"\b(?:factory|null|None|False|int|float|str)\b|\(default: \)|--json-output|--all-runs")


def assert_plain_help(printed: str) -> None:
    assert max(map(len, printed.splitlines())) <= 80
    assert PYTHON_WORDS.findall(" ".join(printed.split())) == []  # "default factory" may be on two lines


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_has_no_words_of_python(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: mnist-bp {command} ")
    assert_plain_help(printed)


@pytest.mark.parametrize("command", [TrainCommand, ServeCommand])
def test_help_of_the_scripts_is_as_plain(
    command: type[Command], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse(command, ["--help"])
    assert_plain_help(capsys.readouterr().out)


def test_the_environment_is_read_when_a_command_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "there"):
        Path(place).mkdir()
        monkeypatch.setenv("MNIST_BP_ARTIFACTS", place)
        assert main(["runs", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["artifacts"] == place


def test_an_unknown_command_is_answered_with_the_nearest_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("certfy", "histor", "xyz"):
        assert main([command]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "error: mnist-bp certfy: no such command; did you mean certify? see mnist-bp --help"
    assert second == "error: mnist-bp histor: no such command; did you mean runs? see mnist-bp --help"
    assert f"expected one of {', '.join(COMMANDS)}" in third


def test_version_prints_the_version_of_the_package_and_the_digest_of_its_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mnist-bp {metadata.version('mnist-bp')}, code SHA-256 {code_sha256()}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["certify", "--engine", "warp"], "--engine 'warp': expected 'auto', 'reference', 'cpu' or 'cuda'"),
        (["certify", "--hidden", "0"], "--hidden '0': expected at least 1"),
        (["certify", "--fast"], "--fast: no such flag or argument"),
        (["reproduce"], "WHAT"),
        (["reproduce", "lab-9"], "'lab-9': expected 'lab-8-4'"),
        (["reproduce", "lab-8-4", "--orders", "1"], "--orders '1': expected at least 2"),
        (["bench", "everything"], "'everything': expected 'steps', "),
        (["bench", "--runs", "0"], "--runs '0': expected at least 1"),
        (["bench", "--plot", "picture.gif"], "--plot 'picture.gif': "),
        (["train", "--steps", "many"], "--steps 'many': expected an integer"),
        (["train", "--steps", "1.5"], "--steps '1.5': expected an integer"),
        (["train", "--steps"], "--steps: expected a value"),
        (["train", "--json=3"], "--json: expected no value"),
        (["train", "--learning-rate", "fast"], "--learning-rate 'fast': expected a number"),
        (["train", "--learning-rate", "nan"], "--learning-rate 'nan': expected a finite number"),
        (["train", "--learning-rate", "0"], "--learning-rate '0': expected more than 0;"),
        (["train", "--hidden", "20000"], "--hidden '20000': expected at most 16384"),
        (["train", "--seeds", "5..1"], "--seeds '5..1': expected the lower seed first, as in 1..5"),
        (["train", "--artifacts", "s3:/bucket"], "--artifacts 's3:/bucket': expected a directory or s3://bucket"),
        (["gc", "--keep", "1", "--grace-hours", "nan"], "--grace-hours 'nan': expected a finite number"),
        (["runs", "--artifacts", "s3:/bucket"], "--artifacts 's3:/bucket': expected a directory or s3://bucket/prefix"),
        (["runs", "--artifacts", ""], "--artifacts '': expected a value that is not empty"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["bench", "--only", "magic"], "magic"),
        (["train", "--dataset", "mnist-sample", "--validation-examples", "4000"], "4000 validation examples: "),
        (["train", "--dataset", "mnist-sample", "--batch-size", "4001"], "batch size 4001: "),
        (["train", "--resume", "20261123T181500Z-1a2b3c4d"], "--resume 20261123T181500Z-1a2b3c4d: "),
    ],
)
def test_a_setting_that_cannot_work_is_one_line_that_blames_it_and_exit_code_2(
    arguments: list[str], value: str, own_signals: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert value in line


@pytest.mark.parametrize(
    "command",
    [
        ["runs"], ["show", "RUN"], ["predict", "seven.png"], ["verify"], ["champion"], ["rollback"],
        ["gc", "--keep", "1"], ["store", "check"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_missing_store_is_the_same_error_for_every_command_and_is_not_created(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--artifacts", "mistyped"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: there is no store at {Path('mistyped').absolute()}: nothing was published there; "
        "check --artifacts ($MNIST_BP_ARTIFACTS), or publish a run first"
    )
    assert not Path("mistyped").exists()


def test_a_mistyped_prefix_of_a_bucket_is_an_error(s3_bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    publish(open_store(f"s3://{s3_bucket}/right"), 1)
    for prefix, code in (("right", 0), ("wrong", 1), ("", 1)):  # the last has a store, below another prefix
        assert main(["runs", "--artifacts", f"s3://{s3_bucket}/{prefix}"]) == code
    err = capsys.readouterr().err
    assert f"error: there is no store at s3://{s3_bucket}/wrong/: " in err
    assert f"error: there is no store at s3://{s3_bucket}/: " in err


@pytest.mark.parametrize("command", [["champion"], ["verify"], ["verify", "--all"]], ids=" ".join)
def test_a_directory_in_which_nothing_was_published_is_no_store(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "something else").touch()
    assert main([*command, "--artifacts", str(tmp_path)]) == 1
    assert f"error: there is no store at {tmp_path}: nothing was published there" in capsys.readouterr().err


def test_store_check_leaves_nothing_that_it_created(capsys: pytest.CaptureFixture[str]) -> None:
    Path("artifacts").mkdir()
    assert main(["store", "check"]) == 0
    assert list(Path("artifacts").iterdir()) == []
    assert "runs can be published to artifacts" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_certify_prints_every_error_with_its_limit(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "--engine", engine]) == 0
    printed = capsys.readouterr().out
    assert all(f"d{name} " in printed and f"{name} after" in printed for name in ("W1", "b1", "W2", "b2"))
    assert all(
        f"{what} " in printed for what in ("a2, pixels times 1/255", "a2, pixels times 1", "loss of backprop.py")
    )
    assert f"{engine} engine certified" in printed
    assert main(["certify", "--engine", engine, "--hidden", "5", "--batch-size", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["passed"]
    assert record["shape"] == {"inputs": 784, "hidden": 5, "classes": 10, "batch_size": 3}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_certify_fails_with_exit_code_1(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mnist_bp.cli.certify.choose_engine", lambda *_: (with_recipe(bias_gradient="sum"), None))
    assert main(["certify", *flags]) == 1
    printed = capsys.readouterr().out
    assert json.loads(printed)["passed"] is False if flags else "NOT certified" in printed


@pytest.mark.slow
def test_reproduce_places_the_published_counts_in_the_distribution(
    mnist: CachedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, picture = Path(mnist.train.path).parents[2], tmp_path / "trace.png"
    flags = ["--orders", "16", "--data-dir", str(data_dir), "--plot", str(picture)]
    assert main(["reproduce", "lab-8-4", *flags, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in report["rows"]] == list(range(1_000, 10_001, 1_000))
    assert [row["published"] for row in report["rows"]] == [*PUBLISHED, None]
    assert len(report["correct"]) == 16
    assert len({tuple(trace) for trace in report["correct"]}) == 16
    assert report["rms_z"] < 2
    assert all(row["minimum"] <= row["mean"] <= row["maximum"] for row in report["rows"])
    assert report["rows"][9]["mean"] > 880
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_reproduce_prints_a_table_and_the_path_of_its_plot(
    mnist: CachedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = Path(mnist.train.path).parents[2]
    assert main(["reproduce", "lab-8-4", "--orders", "2", "--data-dir", str(data_dir)]) == 0
    printed = capsys.readouterr().out
    assert " 897 " in printed
    assert "plot: reproduce-lab-8-4.png" in printed
    assert Path("reproduce-lab-8-4.png").exists()


def test_a_plot_that_cannot_be_written_is_refused_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "lab-8-4", "--plot", "file/picture.png", "--data-dir", "nowhere"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "file" in line
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("flags", [["--json"], []])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error(unbuffered: str, flags: list[str]) -> None:
    Path("artifacts").mkdir()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mnist_bp", "runs", *flags],
            stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: the output could not be written: No space left on device\n"


def test_a_command_with_a_closed_stdout_prints_nothing() -> None:
    Path("artifacts").mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m mnist_bp runs >&-', sys.executable], capture_output=True, text=True
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gc"], "--keep: required; see --help"),
        (["gc", "--json"], "--keep: required; see --help"),
        (["verify", "RUN", "--all"], "expected a run or --all, not both; see --help"),
        (
            ["runs", "--aws-secret-access-key", "canary"],
            "--aws-secret-access-key: no such flag or argument; see --help",
        ),
        (["runs", "--aws-secret-access-key=canary"], "--aws-secret-access-key: no such flag or argument; see --help"),
        (["store", "chek"], "WHAT 'chek': expected 'check'; see --help"),
    ],
)
def test_contradictory_or_incomplete_usage_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_path_is_not_taken_for_a_run_id(capsys: pytest.CaptureFixture[str]) -> None:
    for manifest in (Path("artifacts", "x", "manifest.json"), Path("artifacts", "runs", "manifest.json")):
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
    for name in ("../x", "", "."):
        assert main(["show", name]) == 1
        assert "no such run; no run is complete yet" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--all"]])
def test_verify_fails_where_nothing_is_published(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("artifacts").mkdir()
    assert main(["verify", *flags, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (finding,) = report["findings"]
    assert (report["intact"], finding["status"]) == (False, "missing")
    assert "nothing is published here; check --artifacts" in finding["detail"]


def test_a_lost_log_is_reported_and_not_taken_for_a_dataset_without_champion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = LocalStore(Path("artifacts"))
    run_id = publish(store, 1)
    assert main(["champion"]) == 0
    assert "the first run on a dataset becomes its champion" in capsys.readouterr().out
    log = promote(store, run_id)
    assert log
    put_promotion(store, run_id, entry=log.reference)
    assert main(["champion"]) == 0
    assert "for a test" in capsys.readouterr().out
    store.delete(entry_key("mnist", 0))
    for flags in ([], ["--dataset", "mnist"]):
        assert main(["champion", *flags]) == 1
        printed = capsys.readouterr()
        assert "becomes its champion" not in printed.out
        (line,) = printed.err.splitlines()
        assert f"00000000.json is missing, expected the entry of SHA-256 {log.sha256}" in line
    assert main(["rollback"]) == 2
    assert "there is no champion in" in capsys.readouterr().err
    assert main(["rollback", run_id]) == 1
    assert "--restart-log --dataset mnist" in capsys.readouterr().err
    assert main(["rollback", "--restart-log"]) == 2
    assert "--restart-log: expected the run that becomes champion" in capsys.readouterr().err
    assert main(["rollback", run_id, "--restart-log", "--dataset", "mnist"]) == 0
    assert main(["verify", "--all"]) == 0


def test_rollback_without_a_run_asks_for_a_dataset_if_several_have_a_champion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = LocalStore(Path("artifacts"))
    assert promote(store, publish(store, 1))
    runs = [publish(store, number, "kmnist") for number in (2, 3)]
    for run_id in runs:
        assert promote(store, run_id, "kmnist")
    assert main(["rollback"]) == 2
    assert "there are champions of kmnist, mnist: name one with --dataset" in capsys.readouterr().err
    assert main(["rollback", "--dataset", "kmnist"]) == 0
    capsys.readouterr()
    assert main(["champion", "--dataset", "kmnist", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["champions"]
    assert (report["run_id"], [change["action"] for change in report["history"]]) == (
        runs[0],
        ["promote", "promote", "rollback"],
    )


def test_champion_and_show_state_the_number_of_challenges_and_what_they_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = LocalStore(Path("artifacts"))

    def printed(*command: str) -> str:
        assert main([*command]) == 0
        return capsys.readouterr().out

    challenge(store, publish_model(store, run_id_of(1), 500))
    assert "0 runs did not replace it; the next needs p <= 0.025 = 0.05 / (1 x 2)" in printed("champion")
    assert "chosen by them" not in printed("champion"), "the first champion was not chosen"
    for number, right in ((2, 500), (3, 700), (4, 700), (5, 600)):
        challenge(store, publish_model(store, run_id_of(number), right))
    output = printed("champion")
    assert "2 runs did not replace it; the next needs p <= 0.00417 = 0.05 / (3 x 4)" in output
    assert "on all test images; it was chosen by them, so expect less on new ones" in output
    (report,) = json.loads(printed("champion", "--json"))["champions"]
    assert (report["run_id"], report["challenges"], report["next_p"]) == (run_id_of(3), 2, 0.05 / 12)
    for number, limit in ((3, "0.00833 at challenge 2"), (5, "0.00833 at challenge 2")):
        assert f"(required: at most {limit} to this champion)" in printed("show", run_id_of(number))
    assert [run_id_of(3), "*"] in [line.split()[:2] for line in printed("runs").splitlines()]
    assert main(["verify", "--all"]) == 0
    printed("rollback", run_id_of(1))
    assert "chosen by them" not in printed("champion"), "the first champion was not chosen"
    printed("rollback", run_id_of(3))
    assert "it was chosen by them" in printed("champion"), "a rollback does not make its accuracy that of one run"


def test_show_prints_the_manifest_and_the_promotion(capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(Path("artifacts"))
    run_id = publish(store, 1)
    assert main(["show", run_id]) == 0
    output = capsys.readouterr().out
    assert "promotion      not decided: no promotion.json" in output
    assert "certificate    passed on 2026-11-28, before an earlier run\n" in output
    put_promotion(store, run_id)
    assert promote(store, run_id)
    assert main(["show", run_id]) == 0
    lines = capsys.readouterr().out.splitlines()
    manifest, sha256 = read_manifest(store, run_id)
    assert lines[0] == f"run            {run_id}, the champion of mnist"
    assert f"manifest       SHA-256 {sha256}" in lines
    assert any(line.startswith("promotion      promoted: ") for line in lines)
    for name, file in manifest.files.items():
        assert [name, f"{file.size:,}", file.sha256[:16]] in [line.split() for line in lines]
    for point in manifest.checkpoints:
        assert [f"{point.step:,}", f"{point.accuracy:.4f}"] in [line.split()[:2] for line in lines]


def test_show_names_a_damaged_promotion_record_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(Path("artifacts"))
    run_id = publish(store, 1)
    put_promotion(store, run_id)
    path = Path("artifacts/runs", run_id, "promotion.json")
    path.write_bytes(path.read_bytes().replace(b"promoted", b"demoted!"))
    assert main(["show", run_id, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["promotion"]["outcome"] == "damaged"
    assert report["problems"] == [report["promotion"]["reason"]]
    assert "promotion.json" in report["promotion"]["reason"]


def test_verify_counts_the_runs_that_it_did_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(Path("artifacts"))
    first, *_ = (publish(store, number) for number in (1, 2, 3))
    assert promote(store, first)
    put_promotion(store, first)
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.endswith("\n2 other runs were not read: mnist-bp verify --all reads every run\n")
    assert main(["verify", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["findings"], report["runs_not_read"]) == ([], 2)
    assert main(["verify", "--all"]) == 0
    assert "not read" not in capsys.readouterr().out


def test_a_finding_of_verify_names_its_file_once(capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(Path("artifacts"))
    run_id = publish(store, 1)
    for name, content in (("model.safetensors", b"damaged"), ("manifest.json", b"{}")):
        path = Path("artifacts/runs", run_id, name).absolute()
        path.write_bytes(content)
        assert main(["verify", "--all"]) == 1
        out = capsys.readouterr().out
        assert out.count(str(path)) == 1
        assert f"damaged     {path}\n" in out
        assert "mnist-bp verify --all" not in out  # which is this command
