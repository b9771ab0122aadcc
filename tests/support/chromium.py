"""A real browser: headless Chromium, driven by selenium."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service


@dataclass(frozen=True)
class Browser:
    """A running browser."""

    driver: Any  # a Chrome, whose log methods are untyped

    def open(self, page: Path, width: int = 1280, *, dark: bool = False) -> None:
        """Open a page at a screen width in CSS pixels, in light or dark mode."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # discards earlier entries
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(page.as_uri())

    def run(self, script: str) -> Any:
        """Evaluate JavaScript in the page; its content security policy does not apply to the driver."""
        return self.driver.execute_script(script)

    def console(self) -> list[str]:
        """Return the console messages since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the URLs requested since the page was opened, except `data:` URLs."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        ours = [params["request"]["url"] for params in sent if not params["documentURL"].startswith("chrome:")]
        return [address for address in ours if not address.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """Save a screenshot of the whole page, including the part below the window."""
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(picture["data"]))

    def pdf(self) -> bytes:
        """Return the page as PDF."""
        printed = self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False, "preferCSSPageSize": True})
        return base64.b64decode(printed["data"])


@contextmanager
def browse(profile: Path) -> Iterator[Browser]:
    """Run a browser until the block ends. If none is installed, the test is skipped, or fails if CI=true.

    Args:
        profile: An empty directory for the browser's profile.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "needs Chromium and its driver: apt-get install chromium chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason} (CI=true makes this a failure)")
        pytest.skip(reason)
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = Chrome(options, Service(driver))
    try:
        yield Browser(running)
    finally:
        running.quit()
