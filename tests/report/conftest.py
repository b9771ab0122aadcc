"""A browser for the tests of reports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chromium import Browser, browse


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse(tmp_path_factory.mktemp("chromium")) as running:
        yield running
