"""What a nightly run refuses."""

from __future__ import annotations

import pytest

from flows.nightly import nightly
from mnist_bp.config import RunConfig
from mnist_bp.errors import ConfigError
from tests.support.prefect_records import newest_flow_run


@pytest.mark.usefixtures("prefect_server")
def test_a_night_cannot_fall_back_to_the_bundled_sample() -> None:
    with pytest.raises(ConfigError, match="dataset auto: expected a dataset by name"):
        nightly(RunConfig(dataset="auto"))
    assert newest_flow_run().state_name == "Failed"
