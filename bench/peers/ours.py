"""Our own engines, chosen by name as a run chooses them."""

from __future__ import annotations

from bench.peers import NotAvailableError, Task
from mnist_bp.engines.choose import choose_engine
from mnist_bp.engines.interface import Batches
from mnist_bp.errors import ConfigError
from mnist_bp.model.parameters import Model


class Ours:
    """One of this project's engines.

    Args:
        task: The data to train on.
        name: The engine's name.

    Raises:
        NotAvailableError: It cannot run on this machine.
    """

    def __init__(self, task: Task, name: str) -> None:
        try:
            engine, notice = choose_engine(name)
        except ConfigError as error:
            raise NotAvailableError(str(error)) from error
        if engine.name != name:
            raise NotAvailableError(notice or f"the {name} engine is not available on this machine")
        self._data = engine.load(task.images, task.labels, task.classes)
        self._recipe = task.recipe

    def advance(self, model: Model, batches: Batches) -> Model:
        """See `Trainer`."""
        (after,) = self._data.advance([model], [batches], self._recipe)
        return after


class Compiled(Ours):
    """The compiled CPU engine."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, "cpu")


class Reference(Ours):
    """`backprop.py` as written."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, "reference")
