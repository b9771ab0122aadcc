"""What a run is called after: the engine that makes it."""

from __future__ import annotations

from mnist_bp.config import RunConfig
from mnist_bp.resume import WantedRun


def test_a_run_names_the_engine_that_auto_is_here_or_that_it_was_started_with() -> None:
    assert WantedRun("new", RunConfig(engine="auto")).engine != "auto"
    assert WantedRun("new", RunConfig(engine="reference")).engine == "reference"
    assert WantedRun("resumed", RunConfig(engine="auto"), engine_before="reference").engine == "reference"
