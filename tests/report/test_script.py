"""The scripts of a report, in Chromium: the network reads what is drawn, and the slider shows every checkpoint."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from mnist_bp.cli.main import main
from mnist_bp.data.digits import prepare_digit
from mnist_bp.data.parquet import load_split
from mnist_bp.engines.choose import choose_engine
from mnist_bp.model.parameters import Model, UInt8Array, initial_parameters
from mnist_bp.model.recipe import Activation, recipe_of
from mnist_bp.results.dataset import CachedDataset, RawDataset
from mnist_bp.training.checkpoints import load_checkpoint
from mnist_bp.training.evaluation import Evaluator
from tests.support.chromium import Browser
from tests.support.published_runs import EvaluatedRun, train_and_evaluate

RECIPES: dict[Activation, dict[str, Any]] = {
    "sigmoid": {},
    "relu": {"activation": "relu", "initial": "scaled", "loss": "cross_entropy", "learning_rate": 0.02, "hidden": 40},
}
FORWARD = "return arguments[0].map(pixels => [...network.forward(models[arguments[1]], run.activation, pixels).a2]);"
INK = """
const {data} = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height);
return Array.from({length: data.length / 4}, (_, i) => data[4 * i + 3]);
"""
SEEN = "return [...pixels]"
SHOWN = "return [...document.querySelectorAll('#outputs .value')].map(each => each.innerText)"
VERDICT = "return document.querySelector('.verdict').innerText.split(/\\s+/).join(' ')"
WAIT = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 300)));"


Publish = Callable[[Activation], "Published"]


@dataclass(frozen=True)
class Published:
    """A run with its report."""

    run: EvaluatedRun
    page: Path
    images: UInt8Array
    labels: UInt8Array

    @property
    def models(self) -> list[Model]:
        """The model before the first step, and at every checkpoint."""
        recipe = recipe_of(self.run.trained.config)
        last = [load_checkpoint(point.file)[0] for point in self.run.trained.checkpoints]
        return [initial_parameters(1, 784, last[0].W1.shape[1], 10, recipe.gain), *last]

    @property
    def evaluator(self) -> Evaluator:
        return Evaluator(choose_engine("cpu")[0], self.images, self.labels, recipe_of(self.run.trained.config))

    def outputs(self, model: Model, images: UInt8Array) -> Any:
        """What the engine predicts, shape (N, 10)."""
        loaded = choose_engine("cpu")[0].load(images, np.zeros(len(images), np.uint8))
        return loaded.predict(model, recipe_of(self.run.trained.config).activation)


@pytest.fixture(scope="module")
def publish(sample_raw: RawDataset, sample: CachedDataset, tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """Trains and publishes a run of an activation, once."""

    @cache
    def published(activation: Activation) -> Published:
        place = tmp_path_factory.mktemp(activation)
        settings = {"steps": 600, "checkpoint_every": 200, **RECIPES[activation]}
        run = train_and_evaluate(sample_raw, sample, place / "data", **settings)
        page = Path(run.publish(str(place / "artifacts")).artifacts, "report.html")
        return Published(run, page, *load_split(sample.test))

    return published


@pytest.fixture(params=RECIPES)
def of_each_activation(request: pytest.FixtureRequest, publish: Publish) -> Published:
    return publish(request.param)


@pytest.fixture
def published(publish: Publish) -> Published:
    return publish("relu")


def draw_seven(browser: Browser) -> None:
    """Draw with a real pointer: a bar, and a stroke down to the left."""
    pad = browser.driver.find_element(By.ID, "pad")
    browser.run("document.querySelector('#draw').scrollIntoView()")
    strokes = ActionChains(browser.driver, duration=20).move_to_element_with_offset(pad, -60, -80).click_and_hold()
    for right, down in ((60, 0), (60, 0), (-35, 70), (-35, 90)):
        strokes.move_by_offset(right, down)
    strokes.release().perform()
    browser.driver.execute_async_script(WAIT)


def test_outputs_in_the_page_equal_those_of_the_engine_within_1e_5_on_100_test_images(
    browser: Browser, of_each_activation: Published
) -> None:
    browser.open(of_each_activation.page)
    images = of_each_activation.images[:100]
    found = browser.driver.execute_script(FORWARD, images.tolist(), 3)
    assert np.abs(np.array(found) - of_each_activation.outputs(of_each_activation.models[-1], images)).max() < 1e-5


def test_the_last_model_is_in_the_page_bit_by_bit_and_earlier_ones_read_as_well(
    browser: Browser, published: Published
) -> None:
    browser.open(published.page)
    assert browser.run("return models.length") == 4
    for number, model in enumerate(published.models):
        found = browser.run(f"return Object.values(models[{number}]).map(values => [...values])")
        if number == 3:
            assert [np.array(each, np.float32).tobytes() for each in found] == [each.tobytes() for each in model]
        if number == 0:
            continue  # untrained, it guesses, and rounding changes a guess
        restored = Model(
            *(np.array(each, np.float32).reshape(own.shape) for each, own in zip(found, model, strict=True))
        )
        evaluator = published.evaluator
        assert abs(evaluator.accuracy(restored) - evaluator.accuracy(model)) <= 0.003


def test_the_page_prepares_a_drawing_as_predict_does_byte_by_byte(browser: Browser, published: Published) -> None:
    browser.open(published.page)
    draw = np.random.default_rng(1)
    for height, width in ((280, 280), (90, 60), (5, 31), (1, 1), (20, 20), (130, 4)):
        ink = np.zeros((280, 280), np.uint8)
        top, left = draw.integers(0, 281 - height), draw.integers(0, 281 - width)
        ink[top : top + height, left : left + width] = draw.integers(0, 256, (height, width)) // draw.integers(1, 9)
        ink[top, left] = 200
        prepare = "return [...network.prepare(arguments[0], 280, run)]"
        found = browser.driver.execute_script(prepare, ink.ravel().tolist())
        assert np.array_equal(np.array(found).reshape(28, 28), prepare_digit(ink))


def test_a_seven_drawn_with_the_pointer_has_the_class_that_predict_gives_for_the_same_pixels(
    browser: Browser, of_each_activation: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    browser.open(of_each_activation.page)
    draw_seven(browser)
    ink = np.array(browser.run(INK), np.uint8).reshape(280, 280)
    assert 0.03 < (ink > 0).mean() < 0.3
    Image.fromarray(255 - ink).save("seven.png")
    store = ["--artifacts", str(of_each_activation.page.parents[2])]
    assert main(["predict", "seven.png", "--run", of_each_activation.page.parent.name, *store, "--json"]) == 0
    (predicted,) = json.loads(capsys.readouterr().out)["predictions"]
    assert browser.run(VERDICT).endswith(f" {predicted['class']}")
    assert browser.run(SHOWN) == [f"{output:.2f}" for output in predicted["outputs"]]
    assert browser.run(SEEN) == prepare_digit(ink).ravel().tolist()
    assert browser.console() == []
    browser.driver.find_element(By.ID, "clear").click()
    assert browser.run(VERDICT) == "nothing to read"
    assert sum(browser.run(INK)) == 0


def test_a_test_image_and_a_mistake_are_read_as_they_are_after_one_tap(browser: Browser, published: Published) -> None:
    browser.open(published.page)
    three = published.images[published.labels.tolist().index(3)]
    three_button = browser.driver.find_elements(By.CSS_SELECTOR, "#tray button")[3]
    browser.run("document.querySelector('#tray').scrollIntoView({block: 'end'})")
    three_button.click()
    assert browser.run(SEEN) == three.tolist()
    mistake = published.run.evaluation.mistakes[0]
    browser.driver.find_element(By.CSS_SELECTOR, ".digits button").send_keys(Keys.ENTER)
    assert browser.run(SEEN) == published.images[mistake.index].tolist()
    assert browser.run(VERDICT).endswith(f" {mistake.predicted}")
    assert browser.run(SHOWN)[mistake.label] == f"{mistake.true_class_output:.2f}"
    draw_seven(browser)
    ink = np.array(browser.run(INK), np.uint8).reshape(280, 280)
    assert browser.run(SEEN) == prepare_digit(ink).ravel().tolist()  # the drawing alone
    browser.driver.find_element(By.ID, "clear").click()
    draw_seven(browser)
    assert np.mean(ink != np.array(browser.run(INK)).reshape(280, 280)) < 0.01


def test_nothing_is_drawn_for_a_dataset_of_which_it_is_not_known_how_its_images_were_prepared(
    browser: Browser, published: Published, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(published.page.read_text().replace('"drawn": true', '"drawn": false'))
    browser.open(page)
    draw_seven(browser)
    assert browser.run(SEEN) == published.images[0].tolist()
    browser.driver.find_elements(By.CSS_SELECTOR, "#tray button")[3].click()
    assert browser.run(SEEN) == published.images[published.labels.tolist().index(3)].tolist()


def figures(browser: Browser) -> tuple[Any, ...]:
    rows = "return [...document.querySelectorAll('{} tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
    classes = browser.run(rows.format(".classes"))
    bars = "return [...document.querySelectorAll('.classes td.bar span')].map(bar => parseFloat(bar.style.width))"
    return browser.run(rows.format(".confusion")), [row[2] for row in classes], browser.run(bars)


def test_the_slider_shows_every_checkpoint_and_is_moved_by_the_keyboard(browser: Browser, published: Published) -> None:
    browser.open(published.page)
    at_the_end = figures(browser)
    slider = browser.driver.find_element(By.ID, "slider")
    evaluator, seen = published.evaluator, []
    slider.send_keys(Keys.HOME)
    for number, model in enumerate(published.models):
        browser.driver.execute_async_script(WAIT)
        confusion = evaluator.confusion(model)
        rows, accuracies, widths = figures(browser)
        assert rows == [[str(label), *map(str, row)] for label, row in enumerate(confusion)]
        wrong = [1 - row[label] / sum(row) for label, row in enumerate(confusion)]
        assert accuracies == [f"{1 - share:.4f}" for share in wrong]
        assert np.array(widths) * max(wrong) == pytest.approx(np.array(wrong) * max(widths), abs=0.2)
        step = 200 * number
        assert browser.run("return document.querySelector('#timeline').innerText.split(/\\s+/).join(' ')") == (
            f"Play step {step} {evaluator.accuracy(model):.4f}"
        )
        seen.append(browser.run("return document.querySelector('.units canvas').toDataURL()"))
        slider.send_keys(Keys.ARROW_RIGHT)
    assert figures(browser) == at_the_end
    assert len(set(seen)) == 4
    assert browser.console() == []


def test_the_hidden_units_light_up_as_the_model_at_the_slider_activates_them(
    browser: Browser, of_each_activation: Published
) -> None:
    browser.open(of_each_activation.page)
    slider = browser.driver.find_element(By.ID, "slider")
    lit = "return [...document.querySelectorAll('#cells canvas')].map(cell => +cell.style.getPropertyValue('--lit'))"
    x = of_each_activation.images[0] / 255
    for model in of_each_activation.models[:0:-1]:
        z1 = x @ model.W1 + model.b1
        a1 = 1 / (1 + np.exp(-z1)) if model.W1.shape[1] == 30 else np.maximum(z1, 0) / z1.max()
        assert browser.run(lit) == pytest.approx(a1.tolist(), abs=0.03)  # the first layer is rounded
        slider.send_keys(Keys.ARROW_LEFT)
        browser.driver.execute_async_script(WAIT)


def test_play_moves_through_the_checkpoints_and_stops_at_the_last(browser: Browser, published: Published) -> None:
    browser.open(published.page)
    # in one script, so that no time passes in between
    assert browser.run("find('#play').click(); return [slider.value, find('#play').innerText]") == ["0", "Pause"]
    browser.driver.execute_async_script(
        "const done = arguments[0]; new MutationObserver(done).observe(find('#play'), {childList: true});"
    )
    assert browser.run("return [slider.value, find('#play').innerText]") == ["3", "Play"]


def test_every_control_is_reached_with_the_tab_key(browser: Browser, published: Published) -> None:
    browser.open(published.page)
    reached = []
    for _ in range(80):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        name = browser.run("const e = document.activeElement; return e.id || e.ariaLabel || e.className || e.tagName")
        if name == "BODY":
            break
        reached.append(name)
    assert reached[:3] == ["clear", "Load a test image: 0", "Load a test image: 1"]
    assert {"as-weights", "play", "slider", "digit", "SUMMARY"} <= set(reached)


def test_without_scripts_the_page_shows_the_last_model_and_hides_what_needs_them(
    browser: Browser, published: Published
) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(published.page)
        for selector in ("#draw", "#timeline"):
            assert not browser.driver.find_element(By.CSS_SELECTOR, selector).is_displayed()
        units = browser.driver.find_elements(By.CSS_SELECTOR, ".units img")
        assert len(units) == published.models[-1].W1.shape[1]
        assert browser.driver.find_element(By.CSS_SELECTOR, ".confusion").is_displayed()
        assert "With JavaScript" in browser.driver.find_element(By.CSS_SELECTOR, ".models").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_policy_allows_the_two_scripts_of_the_page_and_nothing_else(published: Published) -> None:
    text = published.page.read_text()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2 == text.count("<script>")
    assert text.count("<script") == 3  # the data is not a script: its type is application/json
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy.replace("&#39;", "'") == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'; base-uri 'none'; form-action 'none'"
    )


def test_a_script_that_is_not_of_the_page_does_not_run(browser: Browser, published: Published, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(published.page.read_text().replace("</main>", "<script>document.title = 'changed'</script></main>"))
    browser.open(page)
    assert browser.driver.title.startswith("mnist-sample 0.")
    (message,) = browser.console()
    assert "Content Security Policy" in message
