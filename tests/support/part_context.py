"""What the parts of a run on the bundled sample have in common."""

from __future__ import annotations

from pathlib import Path

from mnist_bp.results.dataset import CachedDataset
from mnist_bp.training.parts import PartContext


def context_of(sample: CachedDataset, artifacts: Path) -> PartContext:
    """Return the context of parts that are trained by the engine `cpu`, and put into a directory."""
    return PartContext(
        run_id="20261123T000000Z-00000000",
        artifacts=str(artifacts),
        train=sample.train,
        test=sample.test,
        shape=sample.shape,
        held_out=300,
        engine="cpu",
        device="cpu",
        about={},
    )
