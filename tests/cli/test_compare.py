"""`mnist-bp compare`: its table, its JSON and its page, of two runs that were trained on the bundled images."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.cli import process
from mnist_bp.cli.main import main
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.registry.catalog import read_manifest
from mnist_bp.report.images import digit_data_url
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.local import LocalStore
from mnist_bp.training.checkpoints import decode_checkpoint
from tests.cli.test_tables import LOCALES, Terminal, cells
from tests.report.test_page import CONTRASTS
from tests.support.chromium import Browser, browse
from tests.support.published_runs import promote, publish, run_id_of, train_and_evaluate


@pytest.fixture(scope="module")
def place(sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory, and a store with two runs on mnist-sample, the second of which is shorter and is champion."""
    place = tmp_path_factory.mktemp("compare")
    shutil.copytree(Path(sample_raw.files[0].path).parents[2], place / "data")
    for settings in ({"seed": 1}, {"seed": 2, "steps": 200}):
        train_and_evaluate(sample_raw, sample, place / "data", **settings).publish(str(place / "artifacts"))
    store = LocalStore(place / "artifacts")
    runs = [path.name for path in (place / "artifacts/runs").iterdir()]
    (short,) = (run for run in runs if read_manifest(store, run)[0].final.step == 200)
    assert promote(store, short, "mnist-sample")
    return place


@pytest.fixture(scope="module")
def names(place: Path) -> tuple[str, str]:
    """The ids of the long run and of the short one."""
    champion = next((place / "artifacts/champion/mnist-sample").iterdir()).read_text()
    short = json.loads(champion)["run_id"]
    (long,) = (path.name for path in (place / "artifacts/runs").iterdir() if path.name != short)
    return long, short


def flags(place: Path) -> list[str]:
    return ["--artifacts", str(place / "artifacts"), "--data-dir", str(place / "data")]


@pytest.fixture
def report(place: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["compare", names[0], "champion", *flags(place), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_json_has_the_figures_of_both_models_on_every_test_image(
    report: dict[str, Any], place: Path, names: tuple[str, str], sample: CachedDataset
) -> None:
    images, labels = load_split(sample.test)
    right = []
    for run_id in names:
        content = (place / "artifacts/runs" / run_id / "model.safetensors").read_bytes()
        (model,) = decode_checkpoint(content, "")
        predicted = choose_engine("reference")[0].load(images, labels).predict(model, "sigmoid").argmax(1)
        right.append(predicted == labels)
    assert [image["index"] for image in report["a_alone"]] == (right[0] & ~right[1]).nonzero()[0].tolist()
    assert [image["index"] for image in report["b_alone"]] == (right[1] & ~right[0]).nonzero()[0].tolist()
    assert (report["a"]["run_id"], report["b"]["run_id"]) == names
    for side, ours in zip("ab", right, strict=True):
        manifest, _ = read_manifest(LocalStore(place / "artifacts"), report[side]["run_id"])
        assert report[side]["accuracy"] == ours.mean() == manifest.final.accuracy
    settings = [(each["name"], each["a"], each["b"]) for each in report["settings"]]
    assert settings == [("seed", 1, 2), ("steps", 300, 200)]
    assert [point["step"] for point in report["checkpoints"]] == [100, 200, 300]
    assert report["checkpoints"][2]["accuracy_b"] is None
    assert report["html"] is None


def test_the_tables_have_the_same_figures(
    report: dict[str, Any], place: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *names, *flags(place)]) == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert printed.out.startswith(f"mnist-sample: {report['verdict']}\n")
    for each in report["classes"]:
        a, b = each["a"], each["b"]
        assert [str(each["label"]), str(each["images"]), f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"] in lines
    for point in report["checkpoints"][:2]:
        figures = [point[name] for name in ("accuracy_a", "accuracy_b", "loss_a", "loss_b")]
        assert [f"{point['step']:,}", *(f"{figure:.4f}" for figure in figures)] in lines
    for name in ("a", "b"):
        assert f"{len(report[f'{name}_alone']):,} images that only {name.upper()} reads" in printed.out
    for image in report["a_alone"][:10]:
        assert [str(image[name]) for name in ("index", "label", "a", "b")] in lines
    assert f"{len(report['a_alone']) - 10} more: --json lists all, --html shows them" in printed.out
    assert ["steps", "300", "200"] in lines
    assert "reading or downloading mnist-sample in" in printed.err


def test_no_figure_is_lost_on_a_narrow_terminal_or_in_a_pipe_in_any_encoding(
    place: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", *names, *flags(place)]) == 0
    piped = cells(capsys.readouterr().out)
    for columns in (40, None):
        for locale in LOCALES.values():
            terminal = Terminal(locale["encoding"], tty=columns is not None)
            with monkeypatch.context() as patched:
                for name in ("COLUMNS", "NO_COLOR"):
                    patched.delenv(name, raising=False)
                width = {"COLUMNS": str(columns)} if columns else {}
                for name, value in {"TERM": "xterm", **locale, **width}.items():
                    patched.setenv(name, value)
                patched.setattr(sys, "stdout", terminal)
                process.escape_unencodable()
                assert main(["compare", *names, *flags(place)]) == 0
            assert cells(re.sub("-{3,}", "", terminal.printed())) == piped, (columns, locale)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(place: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> Path:
    path = place / "compare.html"
    assert main(["compare", *names, *flags(place), "--html", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["html"] == str(path)
    return path


def test_the_page_shows_the_figures_and_the_images_and_fetches_nothing(
    page: Path, report: dict[str, Any], browser: Browser, sample: CachedDataset
) -> None:
    images, _ = load_split(sample.test)
    for width, dark in ((360, True), (1280, False)):
        browser.open(page, width, dark=dark)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert [found for found in browser.run(CONTRASTS) if found[0] < 4.5] == []
        assert (browser.console(), browser.requests()) == ([], [page.as_uri()])
    browser.open(page, 360)
    browser.run(
        "document.querySelectorAll('.steps tbody tr > :first-child').forEach(e => e.textContent = '10,000,000')"
    )
    assert browser.run("return document.documentElement.scrollWidth") <= 360, "a long training"
    browser.open(page)
    text = browser.run("return document.body.innerText")
    assert report["verdict"] in text
    for name in ("a", "b"):
        assert f"Images that only {name.upper()} reads: {len(report[f'{name}_alone']):,}" in text
    shown = browser.run("return [...document.querySelectorAll('.digits img')].map(image => [image.src, image.alt])")
    a_alone, b_alone = report["a_alone"][:48], report["b_alone"][:48]
    assert len(shown) == len(a_alone) + len(b_alone)
    for (address, alt), image, wrong in zip(
        shown, [*a_alone, *b_alone], ["b"] * len(a_alone) + ["a"] * len(b_alone), strict=True
    ):
        assert address == digit_data_url(images[image["index"]].reshape(28, 28))
        assert alt == f"Test image {image['index']}: {image['label']}, read as {image[wrong]} by {wrong.upper()}"
    rows = browser.run(
        "return [...document.querySelectorAll('.per-class tbody tr')].map(row => [...row.cells].map(c => c.innerText))"
    )
    assert [row[2:4] for row in rows[:-1]] == [[f"{each['a']:.4f}", f"{each['b']:.4f}"] for each in report["classes"]]


def test_equal_comparisons_give_equal_pages_that_name_no_place(
    page: Path, place: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    content = page.read_bytes()
    assert str(place).encode() not in content
    assert re.findall(rb"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z]+:""", content) == []
    assert main(["compare", *names, *flags(place), "--html", str(page)]) == 0
    assert capsys.readouterr().out.endswith(f"\npage: {page}\n")
    assert page.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            [run_id_of(1), run_id_of(2)],
            f"{run_id_of(1)} is a run of mnist and {run_id_of(2)} one of kmnist: their ",
        ),
        (["latest", run_id_of(2)], f"both names are of run {run_id_of(2)}: expected two runs"),
        (["2026112", "latest"], "run 2026112: several ids begin with it, expected one: "),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_before_anything_is_read(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(LocalStore(Path("artifacts")), 1)
    publish(LocalStore(Path("artifacts")), 2, "kmnist")
    assert main(["compare", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {expected}")
    assert not Path("data").exists()


def test_a_missing_store_run_or_directory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "latest", "champion", "--artifacts", "mistyped"]) == 1
    assert "there is no store at" in capsys.readouterr().err
    publish(LocalStore(Path("artifacts")), 1)
    assert main(["compare", "latest", "champion"]) == 1
    assert "there is no champion yet" in capsys.readouterr().err
    for name, problem in (("missing/c.html", "in an existing directory"), ("c.png", "that ends in .html")):
        with pytest.raises(SystemExit):
            main(["compare", "latest", "champion", "--html", name])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: --html {name!r}: expected a ")
        assert problem in line
