"""What is said of a run that is named where a published one is needed, and is not published yet."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from mnist_bp.errors import StoreError
from mnist_bp.storage.address import absolute_address
from mnist_bp.training.interrupted import find_interrupted_run
from mnist_bp.training.resume import resume_flags


@contextmanager
def naming_unfinished(data_dir: str, artifacts: str, run_id: str) -> Iterator[None]:
    """Say how far a run came and how to resume it, in place of the error that it is not in the store.

    Args:
        data_dir: Data directory, which may have the run.
        artifacts: Address of the store, in which it is not.
        run_id: Id of the run whose manifest the block reads.

    Raises:
        StoreError: The block raised one; the message is a better one if the run is unfinished.
    """
    try:
        yield
    except StoreError as exc:
        if exc.transient or (run := find_interrupted_run(data_dir, run_id)) is None:
            raise
        if run.artifacts != absolute_address(artifacts):
            raise StoreError(f"{exc}; the run was started with --artifacts {run.artifacts}") from exc
        resume = shlex.join(["mnist-bp", "train", *resume_flags(run_id, data_dir)])
        advice = "wait until it ends" if run.in_progress else f"resume it with {resume}"
        raise StoreError(f"{run_id} is not published: {run.status}; {advice}") from exc
