"""`mnist-bp runs`, and the histories of all runs as one table, read with DuckDB and pyarrow as in docs/runs.md."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_bp.cli.main import main
from mnist_bp.registry.aliases import move_alias
from mnist_bp.registry.manifest import HISTORY
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from tests.support.published_runs import checkpoint, promote, publish, run_id_of
from tests.support.s3_servers import S3Server

PAGE = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
STEPS = (1_000, 2_000)


class Published(NamedTuple):
    """Facts of a published run."""

    date: str
    run_id: str
    accuracy: float


def from_page(first: str) -> str:
    """Return the indented block of docs/runs.md whose first line begins with `first`."""
    found = re.search(rf"^    {re.escape(first)}.*\n(?:    .*\n)*", PAGE, re.MULTILINE)
    assert found is not None, first
    return re.sub(r"^    ", "", found[0], flags=re.MULTILINE)


def put_run(store: Store, number: int, dataset: str = "mnist", *, complete: bool = True) -> Published:
    """Publish a run whose history.parquet agrees with its manifest; its accuracy falls at the end, as it may."""
    created = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(days=number)
    accuracy = 0.9 + number / 100
    points = [checkpoint(STEPS[0], accuracy + 0.001, number), checkpoint(STEPS[1], accuracy, number)]
    scores = [point.model_dump(mode="json", exclude={"file"}) for point in points]
    run = {"run_id": run_id_of(number), "created": created, "dataset": dataset, "engine": "cpu"}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**run, **score} for score in scores], schema=HISTORY), sink)
    changes = {
        "created": created.isoformat(),
        "seed": number,
        "checkpoints": [point.model_dump(mode="json") for point in points],
    }
    contents = {"history.parquet": sink.getvalue()}
    run_id = publish(store, number, dataset, steps=STEPS, contents=contents, manifest=complete, changes=changes)
    return Published(created.date().isoformat(), run_id, accuracy)


@pytest.fixture
def published() -> list[Published]:
    """Three runs on MNIST, one on another dataset, and an incomplete one, in ./artifacts."""
    store = open_store("artifacts")
    put_run(store, 4, "fashion-mnist")
    put_run(store, 5, complete=False)
    return [put_run(store, number) for number in (1, 2, 3)]


def runs(capsys: pytest.CaptureFixture[str], *flags: str, code: int = 0) -> dict[str, Any]:
    assert main(["runs", "--json", *flags]) == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_every_run_is_listed_in_order_of_time_and_one_without_a_manifest_as_incomplete(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = runs(capsys)["runs"]
    assert [run["run_id"] for run in listed] == [run_id_of(number) for number in (1, 2, 3, 4, 5)]
    assert [run["status"] for run in listed] == ["complete"] * 4 + ["incomplete"]
    assert [run["dataset"] for run in listed] == ["mnist"] * 3 + ["fashion-mnist", None]
    assert [run["seed"] for run in listed] == [1, 2, 3, 4, None]
    assert main(["runs"]) == 0
    (line,) = [line.split() for line in capsys.readouterr().out.splitlines() if run_id_of(5) in line]
    assert line == [run_id_of(5), "(incomplete)"]


def test_dataset_lists_the_complete_runs_on_it_alone(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = runs(capsys, "--dataset", "mnist")["runs"]
    assert [(run["created"][:10], run["run_id"], run["accuracy"]) for run in listed] == published


def test_since_lists_the_runs_that_were_started_then_or_later(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    def since(time: str) -> list[str]:
        return [run["run_id"] for run in runs(capsys, "--since", time)["runs"]]

    every = [run_id_of(number) for number in (1, 2, 3, 4, 5)]
    assert since("2026-11-23") == since("2026-11-23T00:00:01") == every
    assert since("2026-11-23T00:00:03") == since("2026-11-22T16:00:03-08:00") == every[2:]
    assert since("2026-11-24") == []
    assert main(["runs", "--since", "2026-11-24"]) == 0
    assert capsys.readouterr().out == "no runs since 2026-11-24T00:00:00+00:00 in artifacts\n"


def test_top_lists_the_most_accurate_complete_runs_of_each_dataset_best_first(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = runs(capsys, "--top", "2")["runs"]
    assert [run["run_id"] for run in listed] == [run_id_of(number) for number in (4, 3, 2)]
    assert [run["dataset"] for run in listed] == ["fashion-mnist", "mnist", "mnist"]
    assert [run["run_id"] for run in runs(capsys, "--top", "9", "--dataset", "mnist")["runs"]] == [
        run_id_of(number) for number in (3, 2, 1)
    ]


def test_csv_has_the_columns_of_json_and_nothing_else_on_stdout(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(open_store("artifacts"), published[0].run_id)
    for alias in ("best", "also"):
        move_alias(open_store("artifacts"), published[1].run_id, alias)
    path = Path("artifacts/runs", published[2].run_id, "manifest.json")
    path.write_bytes(path.read_bytes().replace(b"cpu", b"gpu", 1))
    assert main(["runs", "--csv", "--plot", "runs.png"]) == 1
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    report = runs(capsys, code=1)
    assert [*rows[0]] == [*report["runs"][0]]
    assert len(rows) == len(report["runs"]) == 5
    for row, run in zip(rows, report["runs"], strict=True):
        expected = {**run, "aliases": " ".join(run["aliases"])}
        assert row == {name: "" if value is None else str(value) for name, value in expected.items()}
    assert [row["aliases"] for row in rows] == ["", "also best", "", "", ""]
    assert printed.err == f"error: {rows[2]['damage']}\n"
    assert Path("runs.png").exists()


def test_a_table_has_a_column_of_aliases_if_a_run_has_one(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store("artifacts")
    assert promote(store, published[0].run_id)
    assert main(["runs"]) == 0
    assert "alias" not in capsys.readouterr().out
    for alias in ("best", "also"):
        move_alias(store, published[1].run_id, alias)
    assert main(["runs"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][-1] == "alias"
    assert [line[-2:] for line in lines if line[:1] == [published[1].run_id]] == [["also", "best"]]


def test_the_champion_is_marked(published: list[Published], capsys: pytest.CaptureFixture[str]) -> None:
    assert promote(open_store("artifacts"), published[1].run_id)
    assert [run["champion"] for run in runs(capsys)["runs"]] == [False, True, False, False, False]
    assert main(["runs"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "20261123T" in line]
    assert lines[1] == [published[1].run_id, "*", "mnist", "cpu", "2", "2,000", "0.9200", "1.25"]
    assert ["*" in line for line in lines] == [False, True, False, False, False]


def test_the_accuracy_is_plotted_in_the_named_file(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(open_store("artifacts"), published[0].run_id)
    assert runs(capsys, "--plot", "runs.png")["plot"] == "runs.png"
    assert Path("runs.png").read_bytes().startswith(b"\x89PNG")
    assert main(["runs", "--plot", "again.png"]) == 0
    assert capsys.readouterr().out.endswith("plot: again.png\n")


def test_without_runs_nothing_is_plotted_and_the_exit_code_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    Path("artifacts").mkdir()
    assert main(["runs", "--dataset", "kmnist", "--plot", "runs.png"]) == 0
    assert capsys.readouterr().out == "no runs of kmnist in artifacts yet\n"
    assert not Path("runs.png").exists()


def test_a_run_with_a_damaged_manifest_is_listed_as_damaged_and_not_plotted(
    published: list[Published], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("artifacts/runs", published[0].run_id, "manifest.json")
    path.write_bytes(path.read_bytes().replace(b"cpu", b"gpu", 1))
    report = runs(capsys, code=1)
    assert [run["status"] for run in report["runs"]] == ["damaged", *["complete"] * 3, "incomplete"]
    (problem,) = report["problems"]
    assert published[0].run_id in problem
    assert problem in runs(capsys, "--dataset", "kmnist", "--plot", "runs.png", code=1)["problems"]
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == f"error: {problem}\n"
    assert not Path("runs.png").exists()


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_the_query_of_the_page_reads_all_complete_runs_as_one_table(published: list[Published], zone: str) -> None:
    """With the same dates in every time zone of the reader."""
    with duckdb.connect() as connection:
        connection.execute("LOAD icu")
        connection.execute(f"SET TimeZone = '{zone}'")
        rows = connection.execute(from_page("SELECT strftime")).fetchall()
    assert [(date, run_id, accuracy) for date, run_id, _, accuracy in rows] == published


@pytest.fixture
def bucket(s3_server: S3Server, s3_bucket: str) -> str:
    """Return the bucket's address for pyarrow, with keys and endpoint, since the AWS environment is incomplete here."""
    keys = f"{quote(s3_server.access_key, safe='')}:{quote(s3_server.secret_key, safe='')}"
    host = s3_server.endpoint.removeprefix("http://")
    return f"s3://{keys}@{s3_bucket}/some/prefix?scheme=http&endpoint_override={quote(host)}&region=us-east-1"


def test_the_lines_of_the_page_read_all_complete_runs_from_a_bucket(s3_bucket: str, bucket: str) -> None:
    """DuckDB reads S3 with an extension that it would download; here it reads through pyarrow."""
    store = open_store(f"s3://{s3_bucket}/some/prefix")
    put_run(store, 4, "fashion-mnist")
    put_run(store, 5, complete=False)
    published = [put_run(store, number) for number in (1, 2)]
    names: dict[str, Any] = {}
    exec(from_page("from pyarrow import").replace("s3://bucket/prefix", bucket), names)
    rows = names["history"].to_table().to_pylist()
    assert [row["run_id"] for row in rows] == [run_id_of(number) for number in (1, 1, 2, 2, 4, 4)]
    with duckdb.connect() as connection:
        connection.register("history", names["history"])
        query = "SELECT run_id, max_by(accuracy, step) FROM history WHERE dataset = 'mnist' GROUP BY ALL ORDER BY ALL"
        assert connection.execute(query).fetchall() == [(run.run_id, run.accuracy) for run in published]


@pytest.mark.parametrize(("dataset", "engine"), [("mnist", "cpu"), ("fashion-mnist", "reference")])
def test_a_line_fits_80_columns_with_the_whole_run_id(
    dataset: str, engine: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, number = open_store("artifacts"), 1
    about = {"created": "2026-11-23T00:00:01+00:00", "seed": 99, "train_seconds": 11.12, "engine": engine}
    assert promote(store, publish(store, number, dataset, steps=(1_000, 10_000), changes=about), dataset)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["runs"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "20261123T" in line]
    assert len(line) <= 80
    assert line.split() == [run_id_of(number), "*", dataset, engine, "99", "10,000", "1.0000", "11.12"]


@pytest.mark.parametrize("name", ["runs.xyz", "runs", "runs.svg"])
def test_a_picture_of_an_unknown_format_is_refused_before_the_store_is_read(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", "--plot", name, "--artifacts", "missing"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: --plot {name!r}: expected a name that ends in .png; see --help\n"


@pytest.mark.parametrize("command", [["runs"], ["reproduce", "lab-8-4"], ["bench"]])
def test_a_missing_directory_of_a_picture_is_named_and_not_created(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--plot", "missing/runs.png"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(Path("missing").absolute()) in line
    assert not Path("missing").exists()
