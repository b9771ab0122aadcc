"""A store whose calls fail, are interrupted, or are overtaken by other processes; wraps any store.

store = FaultyStore(LocalStore(directory), before={("put", 2): fail})
publish(store)                       # `fail` is called just before the third put
assert len(store.keys_of("put")) == 3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from mnist_bp.storage.interface import Store

Action = Callable[[], object]
Call = int | tuple[str, int]
"""A call by its number among all calls, or by its method and its number among the calls of that method; from 0."""
Actions = Mapping[Call, Action] | Mapping[int, Action] | Mapping[tuple[str, int], Action]


class Killed(BaseException):
    """Ends a process like kill -9: no code after it runs, except that of the test."""


def die() -> None:
    """End the code under test; see `Killed`."""
    raise Killed


class FaultyStore:
    """A store that runs actions at its calls. Threads can share it. Calls made by actions are not counted.

    Args:
        store: The store that does the work.
        before: Actions to run just before calls. If an action raises, the call is not made.
        after: Actions to run just after calls. If an action raises, the call was made, and its reply is lost.
        check: Called after every action and every call.
    """

    def __init__(
        self,
        store: Store,
        before: Actions | None = None,
        after: Actions | None = None,
        check: Action = lambda: None,
    ) -> None:
        self._store, self._check = store, check
        self._before: dict[Any, Action] = dict(before or {})
        self._after: dict[Any, Action] = dict(after or {})
        self._counting = Lock()
        self.calls: list[tuple[str, str]] = []
        """Method and key of each call."""

    def keys_of(self, name: str) -> list[str]:
        """List the keys that a method was called with."""
        return [key for called, key in self.calls if called == name]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name == "uri":
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._counting:
                here: list[Call] = [len(self.calls), (name, len(self.keys_of(name)))]
                self.calls.append((name, str(args[0]) if args else ""))
            self._act(self._before, here)
            result = method(*args, **kwargs)
            if name == "list_entries":
                result = iter(list(result))  # the files of one moment
            self._check()
            self._act(self._after, here)
            return result

        return call

    def _act(self, actions: dict[Any, Action], here: list[Call]) -> None:
        for each in here:
            if each in actions:
                actions[each]()
                self._check()
