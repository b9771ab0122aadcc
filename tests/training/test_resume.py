"""Which engine a run that is to be made will have."""

from __future__ import annotations

from mnist_bp.config import RunConfig
from mnist_bp.engines.choose import choose_engine
from mnist_bp.training.resume import RunRequest


def test_a_run_names_the_engine_that_auto_is_here_or_that_it_was_started_with() -> None:
    assert RunRequest("new", RunConfig(engine="auto")).engine == choose_engine("auto")[0].name
    assert RunRequest("new", RunConfig(engine="reference")).engine == "reference"
    assert RunRequest("resumed", RunConfig(engine="auto"), started_engine="reference").engine == "reference"
