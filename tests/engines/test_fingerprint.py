"""The fingerprint of an engine on a machine."""

from __future__ import annotations

from mnist_bp.engines.cpu import CpuEngine
from mnist_bp.engines.fingerprint import fingerprint
from mnist_bp.engines.reference import ReferenceEngine


def test_a_fingerprint_is_the_same_each_time_and_that_of_another_engine_differs() -> None:
    assert fingerprint(CpuEngine()) == fingerprint(CpuEngine()) != fingerprint(ReferenceEngine("cpu"))
