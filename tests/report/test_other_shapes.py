"""The report of a run on images that are not MNIST's: names of classes, images of any size, scaled drawings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from mnist_bp.report.images import MAX_PIXELS, count_that_fits
from tests.support.chromium import Browser
from tests.support.published_runs import EvaluatedRun
from tests.support.word_digits import SHAPE, train_on_words


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, EvaluatedRun]:
    return {n: train_on_words(tmp_path_factory.mktemp("words"), n, seeds="3", steps=900) for n in (10, 40)}


@pytest.fixture(scope="module")
def pages(runs: dict[int, EvaluatedRun], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The reports, by number of classes."""
    place = tmp_path_factory.mktemp("artifacts")
    return {n: Path(run.publish(str(place / str(n))).artifacts, "report.html") for n, run in runs.items()}


def test_the_page_names_classes_and_says_nothing_of_the_lab(pages: dict[int, Path]) -> None:
    page = pages[10].read_text()
    head = re.search(r'<table class="confusion named">.*?</thead>', page, re.DOTALL)
    assert head is not None
    assert re.findall(r'<th scope="col" title="(\w+)">', head[0]) == list(SHAPE.class_names)
    assert re.search(r"read as <b>[a-z]+</b> \(\d\.\d\d\),</span> <span>is <b>[a-z]+</b>", page)
    assert re.search(r'<span class="positive">\+[a-z]+</span> <span class="negative">&minus;[a-z]+</span>', page)
    assert not re.search(
        r"\blab\b(?! *</dd>)", re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL)
    )


def test_of_more_than_30_classes_the_page_lists_the_most_confused_instead_of_a_matrix(
    runs: dict[int, EvaluatedRun], pages: dict[int, Path]
) -> None:
    page, confusion = pages[40].read_text(), np.array(runs[40].evaluation.confusion)
    assert '<table class="confusion' not in page
    table = re.search(r"<caption>Classes that are most often confused.*?</table>", page, re.DOTALL)
    assert table is not None
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(\d+)</td>', table[0])
    assert len(rows) == 20
    names = list(runs[40].data.shape.class_names)
    assert all(confusion[names.index(a), names.index(b)] == int(count) for a, b, count in rows)
    np.fill_diagonal(confusion, 0)
    assert int(rows[0][2]) == confusion.max()
    assert len(page) < 2_000_000


def test_a_drawing_is_scaled_to_the_size_of_the_images_and_read_by_name(
    browser: Browser, pages: dict[int, Path]
) -> None:
    browser.open(pages[10])
    pad = browser.driver.find_element(By.ID, "pad")
    assert browser.run("return [pad.width, pad.height, seen.width, seen.height]") == [280, 187, 12, 8]
    assert abs(pad.size["width"] / pad.size["height"] - 1.5) < 0.02
    strokes = ActionChains(browser.driver, duration=0).move_to_element_with_offset(pad, -60, -50).click_and_hold()
    for x, y in ((60, -50), (0, 60)):
        strokes = strokes.move_to_element_with_offset(pad, x, y)
    strokes.release().perform()
    browser.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 100))")
    ink = np.array(
        browser.run(
            "const {data} = pen.getImageData(0, 0, pad.width, pad.height);"
            "return Array.from({length: data.length / 4}, (_, i) => data[4 * i + 3]);"
        ),
        np.uint8,
    ).reshape(187, 280)
    found = np.array(browser.run("return [...pixels]")).reshape(8, 12)
    parts = np.kron(ink.astype(np.int64), np.ones((8, 12), np.int64)).reshape(8, 187, 12, 280)
    assert ink.any()
    assert np.array_equal(found, (2 * parts.sum((1, 3)) + 187 * 280) // (2 * 187 * 280))
    outputs = browser.run("return [...network.forward(model, run.activation, pixels).a2]")
    assert browser.run("return find('#verdict').textContent") == SHAPE.class_names[int(np.argmax(outputs))]
    assert browser.console() == []


@pytest.mark.parametrize("classes", [10, 40])
@pytest.mark.parametrize("width", [1280, 400])
def test_long_names_and_many_classes_do_not_make_the_page_wider_than_the_screen(
    browser: Browser, pages: dict[int, Path], classes: int, width: int
) -> None:
    browser.open(pages[classes], width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelectorAll('#outputs li').length") == classes
    assert browser.console() == []


def test_a_page_has_fewer_images_if_they_are_large() -> None:
    assert count_that_fits(128, 784) == 128
    assert count_that_fits(128, 256 * 256) * 256 * 256 <= MAX_PIXELS
    assert count_that_fits(24, 1_024 * 1_024) == count_that_fits(24, 10**9) == 1
