"""The report of a run, as Chromium renders it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from mnist_bp.data.parquet import load_split
from mnist_bp.engines.reference import ReferenceEngine
from mnist_bp.model.parameters import initial_parameters
from mnist_bp.model.recipe import Recipe
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.storage.address import open_store
from mnist_bp.training.evaluation import Evaluator
from tests.support.chromium import Browser
from tests.support.published_runs import promote, train_and_evaluate

CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = colour => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const below = element => {
  for (; element; element = element.parentElement) {
    const colour = rgba(getComputedStyle(element).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest("title, script")) continue;
  const style = getComputedStyle(element);
  const pair = [light(rgba(element.closest("svg") ? style.fill : style.color)), light(below(element))];
  found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), walker.currentNode.textContent.trim()]);
}
return found;
"""
"""Contrast of every text with its background; Source: WCAG 2.2, relative luminance and contrast ratio."""

TABLE = "return [...document.querySelectorAll('{} tbody tr')].map(row => [...row.cells].map(cell => cell.innerText));"

every_mode = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
every_width = pytest.mark.parametrize("width", [360, 1280])


@pytest.fixture(scope="module")
def page(sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    run = train_and_evaluate(sample_raw, sample, place / "data", seeds="1..3")
    return Path(run.publish(str(place / "artifacts")).artifacts, "report.html")


@pytest.fixture(scope="module")
def manifest(page: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(page.with_name("manifest.json").read_text())
    return about


@every_width
@every_mode
def test_the_page_fetches_nothing_and_logs_no_error(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    assert browser.console() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.run("return [...document.images].every(image => image.complete && image.naturalWidth === 28)")


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_needs_horizontal_scrolling(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    content, window = browser.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert content <= window
    cells = "[...document.querySelectorAll('td, th, dd, figcaption, p')]"
    crossing = browser.run(
        f"return {cells}.filter(each => each.scrollWidth > each.clientWidth + 1 && !each.querySelector('.hidden'))"
        ".map(each => each.innerText)"
    )
    assert crossing == []


def test_the_figures_of_a_chart_can_be_read_on_a_telephone(browser: Browser, page: Path) -> None:
    browser.open(page, 360)
    sizes = browser.run(
        "return [...document.querySelectorAll('.ticks text')]"
        ".map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"
    )
    assert len(sizes) > 20
    assert min(sizes) > 8.5


@every_width
@every_mode
def test_every_text_has_a_contrast_of_at_least_4_5_with_its_background(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width, dark=dark)
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 300
    assert [each for each in contrasts if each[0] < 4.5] == []


@every_mode
def test_the_printed_page_is_white_in_light_and_dark_mode_and_says_nothing_about_tapping(
    browser: Browser, page: Path, dark: bool
) -> None:
    browser.open(page, dark=dark)
    assert browser.pdf().startswith(b"%PDF")
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    hint = "return document.querySelector('.digits').parentElement.innerText.includes('Tap one to see')"
    assert browser.run(hint)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [scheme]})
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    printed_hint = browser.run(hint)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert colour == "rgb(255, 255, 255)"
    assert not printed_hint


def test_the_page_shows_the_figures_of_the_manifest(browser: Browser, page: Path, manifest: dict[str, Any]) -> None:
    browser.open(page)
    last = manifest["checkpoints"][-1]
    assert browser.run("return document.querySelector('h1 .figure').innerText") == f"{last['accuracy']:.4f}"
    assert browser.run(TABLE.format(".steps")) == [
        [
            f"{point['step']:,}",
            f"{point['accuracy']:.4f}",
            str(point["lab_correct_of_1000"]),
            f"{point['loss']:.4f}",
            f"{point['train_seconds']:.3f}",
        ]
        for point in manifest["checkpoints"]
    ]
    confusion = [[str(label), *map(str, row)] for label, row in enumerate(manifest["confusion"])]
    assert browser.run(TABLE.format(".confusion")) == confusion
    classes = [[row[0], row[2]] for row in browser.run(TABLE.format(".classes"))]
    wrong = [1 - share for share in last["accuracy_per_class"]]
    bars = browser.run("return [...document.querySelectorAll('.classes td.bar span')].map(each => each.offsetWidth)")
    assert np.array(bars) / max(bars) == pytest.approx(np.array(wrong) / max(wrong), abs=0.02)  # from no error on
    assert classes == [[str(k), f"{accuracy:.4f}"] for k, accuracy in enumerate(last["accuracy_per_class"])]


def test_the_page_shows_lineage_and_configuration(browser: Browser, page: Path, manifest: dict[str, Any]) -> None:
    browser.open(page)
    folded = browser.run("return document.body.innerText")
    assert manifest["code"]["sha256"] not in folded
    assert manifest["environment"]["platform"] not in folded
    for summary in browser.driver.find_elements(By.TAG_NAME, "summary"):
        summary.send_keys(Keys.ENTER)
    text = browser.run("return document.body.innerText")
    assert manifest["environment"]["platform"] in text
    later = ("report.html", "model.onnx")  # files that are written after the page
    files = {name: proof for name, proof in manifest["files"].items() if name not in later}
    for proof in (*manifest["dataset"]["sources"].values(), *manifest["dataset"]["parquet"].values(), *files.values()):
        assert proof["sha256"] in text
    assert manifest["code"]["sha256"] in text
    assert "Certificate of the cpu engine: passed" in text
    facts = dict(browser.run(TABLE.format(".facts")))
    assert (facts["learning_rate"], facts["steps"], facts["hidden"]) == ("0.5", "300", "30")
    assert "artifacts" not in facts


def test_charts_have_a_mark_for_step_0_and_every_checkpoint_and_a_faint_line_for_every_other_seed(
    browser: Browser, page: Path, manifest: dict[str, Any], sample: CachedDataset
) -> None:
    browser.open(page)
    marks = browser.run("return [...document.querySelectorAll('.mark title')].map(each => each.textContent)")
    untrained = initial_parameters(manifest["seed"], 784, 30, 10)
    start = Evaluator(ReferenceEngine(), *load_split(sample.test), Recipe()).score(manifest["seed"], 0, untrained)
    points = [asdict(start), *manifest["checkpoints"]]
    assert [point["step"] for point in points] == [0, 100, 200, 300]
    expected = [f"step {point['step']:,}: {point['accuracy']:.4f}" for point in points]
    assert marks == expected + [f"step {point['step']:,}: {point['loss']:.4f}" for point in points]
    assert browser.run("return document.querySelectorAll('.chart > svg polyline.faint').length") == 2 * 2
    circles = browser.run("return [...document.querySelectorAll('.chart')][1].querySelectorAll('circle').length")
    assert circles == len(points)


def test_mistakes_say_what_was_read_and_what_is_true(browser: Browser, page: Path) -> None:
    browser.open(page)
    captions = browser.run("return [...document.querySelectorAll('.digits figcaption')].map(each => each.innerText)")
    assert len(captions) == 24
    assert all(re.fullmatch(r"read as \d \((0\.\d\d|1\.00)\), is \d", caption) for caption in captions)


def test_the_page_has_a_name_and_an_icon(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert re.fullmatch(r"mnist-sample 0\.\d{4} - mnist-bp, run \S+", browser.driver.title)
    assert browser.run("return document.querySelector('.brand').innerText.trim()") == "mnist-bp"
    icon = "Object.assign(new Image(), {src: document.querySelector('link[rel=icon]').href})"
    assert browser.run(f"const icon = {icon}; return icon.decode().then(() => icon.width)") > 0


def test_the_page_links_to_the_champion_and_to_the_previous_run(
    browser: Browser,
    sample_raw: RawDataset,
    sample: CachedDataset,
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifacts, tomorrow = page.parents[2], datetime.now(UTC) + timedelta(days=1)
    promote(open_store(str(artifacts)), page.parent.name, "mnist-sample")
    runs = []
    for number in (1, 2):
        run_id = f"{tomorrow:%Y%m%d}T00000{number}Z-00000000"
        monkeypatch.setattr("mnist_bp.training.run.new_run_id", lambda run_id=run_id: run_id)
        runs.append(train_and_evaluate(sample_raw, sample, tmp_path, steps=20).publish(str(artifacts)))
    browser.open(Path(runs[1].artifacts, "report.html"))
    links = browser.driver.find_elements(By.CSS_SELECTOR, ".others a")
    assert [link.text for link in links] == [page.parent.name, runs[0].run_id]
    assert [link.find_element(By.XPATH, "..").text.split(link.text)[0] for link in links] == [
        "champion when this run started ",
        "previous run ",
    ]
    assert "until that run is deleted" in browser.driver.find_element(By.CLASS_NAME, "others").text
    links[0].click()
    assert browser.driver.current_url == page.as_uri()
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".others a") == []  # the first run of its store


def test_a_damaged_log_of_the_champion_costs_the_page_its_link_alone(
    sample_raw: RawDataset, sample: CachedDataset, tmp_path: Path
) -> None:
    run = train_and_evaluate(sample_raw, sample, tmp_path / "data", steps=20)
    log = tmp_path / "artifacts/champion/mnist-sample/00000000.json"
    log.parent.mkdir(parents=True)
    log.write_text("{")
    page = Path(run.publish(str(tmp_path / "artifacts")).artifacts, "report.html").read_text()
    assert "champion when this run" not in page
