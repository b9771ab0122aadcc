"""Access to the server of `serve.py` for its user: the command `prefect`, and the UI in a browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.chromium import browse
from tests.support.s3_servers import free_port
from tests.support.scripts import prefect_home
from tests.support.serving import Served, both_are_served, client_of, environment
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A serving process with its own server."""
    directory = tmp_path_factory.mktemp("served")
    home = prefect_home(directory, migrated_database)
    process = Served(["--with-server", "--port", str(free_port())], environment(home), directory)
    try:
        yield process.ready()
    finally:
        process.stop()


def prefect(served: Served, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the command `prefect`."""
    return subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "ls"],
        env=environment(tmp_path, PREFECT_API_URL=served.about["api"], COLUMNS="200", **variables),
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_line_that_it_prints_gives_the_command_prefect_its_password(served: Served, tmp_path: Path) -> None:
    with client_of(served.about["api"], served.password):
        eventually(both_are_served, "they are not served")
    refused = prefect(served, tmp_path)
    assert refused.returncode != 0
    assert "401" in refused.stdout + refused.stderr
    (line,) = [line for line in served.log.read_text().splitlines() if line.startswith("password ")]
    assert served.password not in served.log.read_text()
    export = line.partition("export ")[2]
    shown = subprocess.run(["/bin/sh", "-c", f"export {export}; echo $PREFECT_API_AUTH_STRING"], capture_output=True)
    assert shown.stdout.decode().strip() == served.password
    allowed = prefect(served, tmp_path, PREFECT_API_AUTH_STRING=served.password)
    assert "mnist-bp/train" in allowed.stdout


def test_the_ui_asks_a_browser_for_the_password_and_then_shows_the_deployments(served: Served, tmp_path: Path) -> None:
    with browse(tmp_path / "profile") as browser:
        driver = browser.driver
        driver.get(f"{served.about['ui']}/deployments")
        field = eventually(lambda: driver.find_elements(By.CSS_SELECTOR, "input[type=password]"), "it does not ask")[0]
        assert "nightly" not in driver.page_source
        field.send_keys(served.password, Keys.ENTER)
        eventually(lambda: not driver.find_elements(By.CSS_SELECTOR, "input[type=password]"), "it asks again")
        driver.get(f"{served.about['ui']}/deployments")
        eventually(lambda: "nightly" in driver.page_source, "it does not show them")
