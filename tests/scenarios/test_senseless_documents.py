"""A store and a data directory with one senseless document or strange file: every command goes on, and names it."""

from __future__ import annotations

import json
import resource
import shutil
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest

from mnist_bp.cli.main import main
from mnist_bp.errors import MnistBpError
from mnist_bp.layout import MANIFEST, PROMOTION, RUNS, run_directory
from mnist_bp.registry.comparison import read_published_model
from mnist_bp.registry.nightly import recent_nights
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage import checksummed_json
from mnist_bp.storage.local import LocalStore
from tests.conftest import data_dir_of
from tests.support.challenges import challenge, publish_model
from tests.support.published_runs import EvaluatedRun, run_id_of, train_and_evaluate
from tests.support.senseless import ESCAPE, RAW, STRANGE_FILES, changed_documents, sealed

GOOD, BAD, CHAMPION, CHALLENGER = (run_id_of(number) for number in (1, 2, 3, 4))
CHANGES = 40
"""Documents with one changed value, for each place."""


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """A store with three runs, the last of which is the champion."""
    store = LocalStore(tmp_path / "artifacts")
    for run_id, right in ((GOOD, 900), (BAD, 910), (CHAMPION, 960)):
        challenge(store, publish_model(store, run_id, right))
    return tmp_path / "artifacts"


@pytest.fixture(scope="module")
def trained(sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory) -> EvaluatedRun:
    return train_and_evaluate(sample_raw, sample, tmp_path_factory.mktemp("trained"))


def place_of(kind: str, artifacts: Path) -> Path:
    if kind == "champion":
        return max((artifacts / "champion" / "mnist").iterdir())
    return artifacts / RUNS / BAD / {"manifest": MANIFEST, "promotion": PROMOTION}[kind]


def document_of(path: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(path.read_bytes())
    del document["checksum"]
    return document


def run_every_command(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[int, str]]:
    """Run every command that reads a store, and what the nightly reads; return exit codes and output."""
    place, results = ["--artifacts", str(artifacts)], {}
    for command in (
        ["runs"],
        ["runs", "--json"],
        ["show", GOOD],
        ["show", BAD],
        ["verify"],
        ["verify", "--all"],
        ["verify", BAD],
        ["champion"],
        ["gc", "--dry-run", "--keep", "0", "--grace-hours", "0"],
        ["rollback", "--dataset", "mnist", BAD],
    ):
        code = main([*command, *place])
        output = capsys.readouterr()
        assert code in (0, 1), (command, output.err)
        assert ESCAPE not in output.out + output.err, command
        results[" ".join(command)] = code, output.out + output.err
    return results


def read_as_the_nightly_does(artifacts: Path) -> None:
    """Search for nights and let a run challenge the champion; a damaged document that it needs is one clear error."""
    store = LocalStore(artifacts)
    recent_nights(store, "mnist", date(2026, 11, 24))
    with suppress(MnistBpError):
        challenge(store, read_published_model(store, CHALLENGER))


@pytest.mark.parametrize("kind", ["manifest", "promotion", "champion"])
def test_a_senseless_document_with_a_valid_checksum_stops_no_command_on_other_runs(
    kind: str, artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_model(LocalStore(artifacts), CHALLENGER, 970)
    whole = document_of(place_of(kind, artifacts))
    contents = [*map(sealed, RAW.values()), *changed_documents(whole, CHANGES, seed=13)]
    for number, content in enumerate(contents):
        copy = tmp_path / str(number)
        shutil.copytree(artifacts, copy)
        place_of(kind, copy).write_bytes(content)
        results = run_every_command(copy, capsys)
        assert results[f"show {GOOD}"][0] == 0 or kind == "champion"
        assert GOOD in results["runs"][1]
        if number < len(RAW):  # certainly refused
            assert str(place_of(kind, copy)) in results["verify --all"][1], content[:80]
        read_as_the_nightly_does(copy)
        shutil.rmtree(copy)


def test_a_senseless_journal_is_one_clear_error_on_resume(
    trained: EvaluatedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Path(trained.trained.directory) / "journal.jsonl"
    first, second, *_ = journal.read_bytes().splitlines()
    for line, others in ((first, []), (second, [first])):
        document = json.loads(line)
        del document["checksum"]
        contents = [*map(sealed, RAW.values()), *changed_documents(document, CHANGES, seed=14, indent=None)]
        for number, content in enumerate(contents):
            data_dir = tmp_path / f"{len(others)}-{number}"
            directory = run_directory(data_dir, trained.trained.run_id)
            directory.mkdir(parents=True)
            (directory / "journal.jsonl").write_bytes(b"".join(each + b"\n" for each in others) + content)
            for command in (["runs"], ["show", directory.name]):
                code = main([*command, "--data-dir", str(data_dir), "--artifacts", str(tmp_path / "none")])
                output = capsys.readouterr()
                assert code in (0, 1), output.err
                assert ESCAPE not in output.out + output.err
            shutil.rmtree(data_dir)


def test_a_journal_with_a_text_for_a_number_stops_no_list_of_runs(
    trained: EvaluatedRun, artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((Path(trained.trained.directory) / "journal.jsonl").read_bytes().splitlines()[0])
    del document["checksum"]
    document["config"] |= {"steps": "300", "artifacts": str(artifacts)}
    directory = run_directory(tmp_path / "data", trained.trained.run_id)
    directory.mkdir(parents=True)
    (directory / "journal.jsonl").write_bytes(checksummed_json.dumps(document, indent=None))
    assert main(["runs", "--data-dir", str(tmp_path / "data"), "--artifacts", str(artifacts)]) == 1
    output = capsys.readouterr()
    assert GOOD in output.out
    assert str(directory) in output.out + output.err


@pytest.mark.parametrize("strange", STRANGE_FILES)
@pytest.mark.parametrize("kind", ["manifest", "promotion", "champion", "model"])
def test_a_strange_file_in_a_store_is_named_and_neither_waited_for_nor_read(
    kind: str, strange: str, artifacts: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = artifacts / RUNS / BAD / "model.safetensors" if kind == "model" else place_of(kind, artifacts)
    STRANGE_FILES[strange](path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = run_every_command(artifacts, capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
    code, text = results["verify --all"]
    assert (code, str(path) in text) == (1, True)
    assert "restore it from a copy" in text
    assert "delete it and run again" not in text  # no run would write it again
    if kind == "promotion":  # `gc` and `rollback` go on without it
        assert f"left out: {path}" in caplog.text
    assert GOOD in results["runs"][1]


@pytest.mark.parametrize("strange", STRANGE_FILES)
def test_a_strange_file_in_a_data_directory_is_named_and_neither_waited_for_nor_read(
    strange: str,
    artifacts: Path,
    sample_raw: RawDataset,
    trained: EvaluatedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(data_dir_of(sample_raw), tmp_path / "data")
    data = tmp_path / "data"
    files = [next(data.glob(name)) for name in ("raw/*/train-images*", "parquet/*/manifest.json", "parquet/*/train*")]
    for path in files:
        kept = path.with_name(f".kept-{path.name}")
        shutil.copy(path, kept)
        STRANGE_FILES[strange](path)
        main(["verify", "--data-dir", str(data), "--artifacts", str(artifacts)])
        assert str(path.parent) in capsys.readouterr().out
        path.unlink()
        kept.rename(path)
    copied = trained.copied_to(tmp_path / "run")
    STRANGE_FILES[strange](Path(copied.trained.directory) / "journal.jsonl")
    assert (
        main(["show", copied.trained.run_id, "--data-dir", str(tmp_path / "run"), "--artifacts", str(artifacts)]) == 1
    )
    assert "journal.jsonl" in capsys.readouterr().err
