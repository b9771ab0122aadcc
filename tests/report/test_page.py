"""The report of a run, as Chromium renders it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_bp.results import CachedDataset, RawDataset
from tests.support.chromium import Browser, browse
from tests.support.published_runs import train_and_evaluate

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
  if (!walker.currentNode.textContent.trim() || element.closest("title")) continue;
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
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse(tmp_path_factory.mktemp("chromium")) as running:
        yield running


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
def test_the_printed_page_is_white_in_light_and_dark_mode(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    assert browser.pdf().startswith(b"%PDF")
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [scheme]})
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert colour == "rgb(255, 255, 255)"


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
    assert classes == [[str(k), f"{accuracy:.4f}"] for k, accuracy in enumerate(last["accuracy_per_class"])]


def test_the_page_shows_lineage_and_configuration(browser: Browser, page: Path, manifest: dict[str, Any]) -> None:
    browser.open(page)
    text = browser.run("return document.body.innerText")
    files = {name: proof for name, proof in manifest["files"].items() if name != "report.html"}
    for proof in (*manifest["dataset"]["sources"].values(), *manifest["dataset"]["parquet"].values(), *files.values()):
        assert proof["sha256"] in text
    assert manifest["code"]["sha256"] in text
    assert "Certificate of the cpu engine: passed" in text
    facts = dict(browser.run(TABLE.format(".facts")))
    assert (facts["learning_rate"], facts["steps"], facts["hidden"]) == ("0.5", "300", "30")
    assert "artifacts" not in facts


def test_charts_have_a_mark_for_every_checkpoint_and_a_faint_line_for_every_other_seed(
    browser: Browser, page: Path, manifest: dict[str, Any]
) -> None:
    browser.open(page)
    marks = browser.run("return [...document.querySelectorAll('.mark title')].map(each => each.textContent)")
    points = manifest["checkpoints"]
    expected = [f"step {point['step']:,}: {point['accuracy']:.4f}" for point in points]
    assert marks == expected + [f"step {point['step']:,}: {point['loss']:.4f}" for point in points]
    assert browser.run("return document.querySelectorAll('.chart > svg polyline.faint').length") == 2 * 2
    circles = browser.run("return [...document.querySelectorAll('.chart')][1].querySelectorAll('circle').length")
    assert circles == len(points)
