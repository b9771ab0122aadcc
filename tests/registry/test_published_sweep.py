"""A sweep as it is published: one run with one manifest, a history with the settings of each model, and its report."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mnist_bp.cli.main import main
from mnist_bp.config import RunConfig
from mnist_bp.documents.manifest import Manifest
from mnist_bp.layout import MODEL, part_name, run_key
from mnist_bp.model.sweep import SWEEPABLE
from mnist_bp.pipeline import open_run, run_pipeline
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.registry.verify import verify
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.summary import RunSummary, markdown
from mnist_bp.training.checkpoints import decode_checkpoint

SWEEP = "learning_rate=0.1,0.5 hidden=4,6"


def run_sweep(place: Path, **settings: object) -> RunSummary:
    common = {"dataset": "mnist-sample", "steps": 60, "checkpoint_every": 30, "engine": "cpu", "seeds": "1..2"}
    places = {"data_dir": str(place / "data"), "artifacts": str(place / "artifacts")}
    return run_pipeline(open_run(RunConfig.model_validate({**common, **places, "sweep": SWEEP, **settings})))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, RunSummary]:
    place = tmp_path_factory.mktemp("sweep")
    return open_store(str(place / "artifacts")), run_sweep(place)


@pytest.fixture
def manifest(swept: tuple[Store, RunSummary]) -> Manifest:
    store, summary = swept
    return read_manifest(store, summary.run_id)[0]


def test_a_sweep_is_one_run_whose_manifest_lists_the_files_of_all_parts(
    swept: tuple[Store, RunSummary], manifest: Manifest
) -> None:
    store, summary = swept
    parts = {part_name(60, 0), part_name(60, 1)}
    assert parts <= manifest.files.keys()
    for name in parts:
        models = decode_checkpoint(
            store.get(run_key(summary.run_id, name), manifest.files[name].sha256, manifest.files[name].size), name
        )
        assert len(models) == 4
    assert (manifest.models, manifest.seeds, [point.step for point in manifest.checkpoints]) == (8, (1, 2), [60])
    checks = list(verify(store, Path("none"), summary.run_id))
    assert {store.uri(run_key(summary.run_id, name)) for name in parts} <= {check.uri for check in checks}
    assert not any(check.bad for check in checks)


def test_the_configuration_of_a_sweep_has_the_settings_of_its_best_model_and_trains_the_same_models_again(
    swept: tuple[Store, RunSummary], manifest: Manifest, tmp_path: Path
) -> None:
    _, summary = swept
    own = {name: manifest.config[name] for name in ("learning_rate", "hidden")}
    assert own == summary.settings
    again = run_sweep(tmp_path, **{name: value for name, value in manifest.config.items() if name != "artifacts"})
    repeated, _ = read_manifest(open_store(str(tmp_path / "artifacts")), again.run_id)
    weights = [name for name in manifest.files if name.endswith(".safetensors")]
    assert len(weights) == 4
    assert MODEL in weights
    assert {name: repeated.files[name] for name in weights} == {name: manifest.files[name] for name in weights}


def test_the_history_of_a_sweep_has_a_row_for_each_model_and_checkpoint_with_its_settings(
    swept: tuple[Store, RunSummary],
) -> None:
    store, summary = swept
    table = pq.read_table(io.BytesIO(store.get(run_key(summary.run_id, "history.parquet"))))
    rows = table.to_pylist()
    found = {(row["learning_rate"], row["hidden"], row["seed"], row["step"]) for row in rows}
    expected = {
        (rate, hidden, seed, step) for rate in (0.1, 0.5) for hidden in (4, 6) for seed in (1, 2) for step in (30, 60)
    }
    assert (len(rows), found) == (16, expected)
    assert {"loss_function" if name == "loss" else name for name in SWEEPABLE} <= set(table.column_names)
    best = max((row for row in rows if row["step"] == 60), key=lambda row: row["validation_accuracy"])
    own = {"learning_rate": best["learning_rate"], "hidden": best["hidden"]}
    assert (own, best["seed"], best["accuracy"]) == (summary.settings, summary.seed, summary.accuracy)


def test_runs_shows_a_sweep_in_one_line_with_its_number_of_models(
    swept: tuple[Store, RunSummary], capsys: pytest.CaptureFixture[str]
) -> None:
    _, summary = swept
    artifacts = str(Path(summary.run_directory).parents[2] / "artifacts")
    assert main(["runs", "--artifacts", artifacts, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert row["models"] == 8
    assert main(["runs", "--artifacts", artifacts]) == 0
    heading, _, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["run", "dataset", "engine", "models"]
    assert re.fullmatch(rf"{summary.run_id} +\*? +mnist-sample +cpu +8 +.*", line)


def test_the_report_of_a_sweep_has_a_heat_map_and_best_and_spread_of_each_combination(
    swept: tuple[Store, RunSummary],
) -> None:
    store, summary = swept
    page = store.get(run_key(summary.run_id, "report.html")).decode()
    section = page[page.index('<section id="sweep">') :].split("</section>")[0]
    heat, table = section.split("<table")[1:]
    assert (
        len(re.findall(r"<td class=\"(own|right)\" style=\"--shade: \d+%\" title=\"2 models: 0\.\d{4} to ", heat)) == 4
    )
    assert heat.count('class="own"') == 1
    best, *others = re.findall(r"<tr( class=\"own\")?><th scope=\"row\">(.*?)</th><th scope=\"row\">(.*?)</th>", table)
    assert best[1:] == (f"{summary.settings['learning_rate']:g}", str(summary.settings["hidden"]))
    assert [bool(mark) for mark, *_ in (best, *others)] == [True, False, False, False]


def test_a_sweep_of_three_settings_is_shown_in_parallel_coordinates(tmp_path: Path) -> None:
    summary = run_sweep(tmp_path, sweep="learning_rate=0.1,0.5 hidden=4,6 schedule=constant,linear", seeds="1")
    page = open_store(summary.artifacts.rpartition("/runs/")[0]).get(run_key(summary.run_id, "report.html")).decode()
    section = page[page.index('<section id="sweep">') :].split("</section>")[0]
    lines = re.findall(r'<polyline class="(main|faint)" points="([\d., ]+)"/>', section.split("</svg>")[0])
    assert sorted(style for style, _ in lines) == 7 * ["faint"] + ["main"]
    assert {len(points.split()) for _, points in lines} == {4}


def test_the_summary_states_the_sweep_and_the_settings_of_the_best_model(swept: tuple[Store, RunSummary]) -> None:
    _, summary = swept
    assert (summary.models, summary.sweep) == (8, SWEEP)
    rate, hidden = summary.settings.values()
    assert f"| sweep | {SWEEP}; the best model has learning rate {rate}, hidden {hidden} |" in markdown(summary)
    assert "| models | 8 models: mean 0." in markdown(summary)
    assert json.loads(summary.model_dump_json())["settings"] == summary.settings
