"""Which process runs which files of tests, when several run them.

Tests of deployments wait most of the time. In several processes at once, they leave cores idle and start a server each;
so one process runs their files one after the other, while the other processes keep the cores busy.
"""

from __future__ import annotations

from collections.abc import Iterable

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

WAITING = "tests/deployments/"
"""Directory of the tests that wait."""


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """As `--dist loadfile`, but files of tests that wait are for the first process as long as there are others."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(next_file(self.workqueue, waits=node is self.nodes[0]), last=False)
        super()._assign_work_unit(node)


def next_file(files: Iterable[str], *, waits: bool) -> str:
    """Return the file that a process runs next.

    Args:
        files: The files that no process has begun, in order; at least one.
        waits: Whether the process is the one for tests that wait.
    """
    ordered = sorted(files, key=lambda file: file.startswith(WAITING) is not waits)  # which keeps the order otherwise
    return ordered[0]
