"""JSONPath, as printer columns use it: `.spec.hosts`, `.ports[0].port`, `.conditions[?(@.type=="Ready")].status`, `.items[*].name`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]

_TOKEN = re.compile(
    r"""\.(?P<name>(?:[^.\[\]\\]|\\.)+)
      | \[(?P<index>-?\d+)\]
      | \[\s*(?P<quote>['"])(?P<key>.*?)(?P=quote)\s*\]
      | (?P<all>\[\*\]|\.\*)
      | \[\?\(\s*@(?P<path>[^=!<>\s)]*)\s*(?:(?P<operator>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*)?\)\]
    """,
    re.VERBOSE,
)


class BadPath(ValueError):
    """A path that is none, or one with more than is understood here."""


def find(path: str, value: Any) -> list[Any]:
    """All that the path leads to. Raises BadPath."""
    found = [value]
    for step in _steps(path):
        found = [inside for each in found for inside in step(each)]
    return found


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[Step, ...]:
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise BadPath(f"{path!r} cannot be read at {text[position:]!r}")
        position = token.end()
        steps.append(_step(token))
    return tuple(steps)


def _step(token: re.Match[str]) -> Step:
    if token["all"]:
        return _each
    if token["index"]:
        return _at(int(token["index"]))
    if token["path"] is not None:
        return _filter(token["path"], token["operator"], (token["value"] or "").strip("\"'"))
    return _field(token["key"] if token["key"] is not None else token["name"].replace("\\", ""))


def _each(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _at(position: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= position < len(value):
            yield value[position]

    return step


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _filter(path: str, operator: str | None, wanted: str) -> Step:
    """Compared as text, which is what printer columns compare."""

    def step(value: Any) -> Iterator[Any]:
        for each in value if isinstance(value, list) else ():
            found = [str(inside).lower() if isinstance(inside, bool) else str(inside) for inside in find(path, each)]
            if (wanted in found) is (operator != "!=") if operator else found:
                yield each

    return step
