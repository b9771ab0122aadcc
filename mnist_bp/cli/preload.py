"""What a run needs late, loaded by a thread while the main thread waits or computes without Python's lock."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from mnist_bp.cli.process import call_in_one_chunk
from mnist_bp.errors import MnistBpError

PUBLICATION: Final = ("mnist_bp.registry.publish", "mnist_bp.registry.promotion", "onnx.reference.ops")
"""Modules of the last stages of a run."""

REPORT: Final = ("report.html", "chart.html", "report.css", "icon.svg")
"""Templates of a run's report."""


def start_preloading(
    modules: Sequence[str], templates: Sequence[str], then: Callable[[], object] | None = None
) -> None:
    """Import modules and compile templates in a daemon thread, in this order. Errors are reported where they are used.

    Args:
        modules: Full names; one that is not installed is left out.
        templates: Names of templates of `mnist_bp.report`.
        then: Called last, if given.
    """

    def load() -> None:
        with suppress(MnistBpError):
            for module in modules:
                with suppress(ImportError):  # onnx is optional
                    importlib.import_module(module)
            from mnist_bp.report.template import page_environment

            for template in templates:
                page_environment().get_template(template)
            if then is not None:
                then()

    threading.Thread(target=partial(call_in_one_chunk, load), daemon=True).start()
