"""`mnist-bp open`: the report of a run in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnist_bp.cli.main import main
from mnist_bp.storage.address import open_store
from tests.support.published_runs import promote, publish, run_id_of


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the browser of this machine appends each address."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setattr("webbrowser._tryorder", None)  # it is read again
    monkeypatch.setattr("webbrowser._browsers", {})
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    return seen


def test_the_newest_report_or_that_of_a_name_is_opened_where_it_is(
    opened: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store("artifacts")
    for number in (1, 2):
        publish(store, number)
    assert promote(store, run_id_of(1))
    for name, number in (([], 2), (["champion"], 1), ([run_id_of(1)], 1)):
        assert main(["open", *name]) == 0
        address = Path("artifacts/runs", run_id_of(number), "report.html").absolute().as_uri()
        assert capsys.readouterr().out == f"{address}\n"
        assert opened.read_text().splitlines()[-1] == address


def test_a_report_in_a_bucket_is_downloaded_and_verified_first(
    s3_bucket: str, opened: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = f"s3://{s3_bucket}/opened"
    run_id = publish(open_store(artifacts), 1)
    assert main(["open", "--artifacts", artifacts, "--json"]) == 0
    copy = Path("data/reports", f"{run_id}.html")
    assert json.loads(capsys.readouterr().out) == {
        "run_id": run_id,
        "report": copy.absolute().as_uri(),
        "opened": True,
    }
    assert copy.read_bytes() == open_store(artifacts).get(f"runs/{run_id}/report.html")
    assert opened.read_text().splitlines() == [copy.absolute().as_uri()]


def test_without_a_browser_the_address_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    publish(open_store("artifacts"), 1)
    assert main(["open"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("file:///")
    assert err == "no browser could be started; open this address in one, or set BROWSER to its command\n"


def test_a_damaged_report_is_not_opened(opened: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = publish(open_store("artifacts"), 1)
    path = Path("artifacts/runs", run_id, "report.html")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert main(["open"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert not opened.exists()


def test_a_run_without_a_report_is_named(opened: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = publish(open_store("artifacts"), 1, contents={"model.safetensors": b"1"})
    assert main(["open"]) == 1
    assert f"{run_id}/report.html: the manifest of the run names no such file" in capsys.readouterr().err
    assert main(["open", "20251123T000000Z-00000001"]) == 1
    assert "no such run" in capsys.readouterr().err
