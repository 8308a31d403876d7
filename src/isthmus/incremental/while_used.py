"""Results that are computed once for all who use them, for as long as somebody does.

A cache of the results used last keeps what has gone until it is full: of a mesh in which names come and go it keeps those of the last weeks. And
where a mesh has more names than the cache has room, it forgets each before it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import update_wrapper
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
R = TypeVar("R")


class WhileUsed(Generic[P, R]):
    """A decorator for functions of hashable arguments that depend on nothing else. `None` is not kept: it costs nothing to find again."""

    def __init__(self, compute: Callable[P, R]) -> None:
        self._compute = compute
        self._known: WeakValueDictionary[Hashable, R] = WeakValueDictionary()
        update_wrapper(self, compute)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (args, *kwargs.items()) if kwargs else args
        found = self._known.get(key)
        if found is None:
            found = self._compute(*args, **kwargs)
            if found is not None:
                self._known[key] = found
        return found

    def __len__(self) -> int:
        """How many results are in use."""
        return len(self._known)


def while_used(compute: Callable[P, R]) -> WhileUsed[P, R]:
    """`compute`, once for all who hold its result. The result must allow weak references."""
    return WhileUsed(compute)
