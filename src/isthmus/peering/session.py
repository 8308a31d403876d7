"""Both ends of a conversation as state machines without I/O: what has been told, and what has been heard.

Laws, held by tests/peering/test_session.py: once all news are taken, the asker has what the teller has; what both have already is not told
again; parts of news change nothing until the last one has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from isthmus.peering.messages import (
    LINE_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    RESOURCE_BYTES_MAX,
    RESOURCES_MAX,
    WHOLE_BYTES_MAX,
    Malformed,
    News,
    Resources,
    version_of,
)

_PART_BYTES = LINE_BYTES_MAX // 2


class Telling:
    """One asker's, who knows some versions already."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._told = dict(known)
        self._resources: Resources = {}
        """What the news were last: of a body that is still the same, the version is known."""
        self._is_first = True

    def news(self, resources: Resources) -> list[News]:
        """What the asker is to be told now, in parts that fit a line; none if it knows. The first are told even if they are empty."""
        before = self._resources
        versions = {
            name: self._told[name] if before.get(name) == body else version_of(body) for name, body in resources.items()
        }
        changed = [name for name, version in sorted(versions.items()) if self._told.get(name) != version]
        removed = tuple(sorted(self._told.keys() - versions.keys()))
        if not changed and not removed and not self._is_first:
            return []
        self._told, self._resources, self._is_first = versions, resources, False
        parts = list(_parts({name: resources[name] for name in changed}))
        *earlier, last = parts
        return [
            *(News(changed=part, more=True) for part in earlier),
            News(changed=last, removed=removed),
        ]


def _parts(changed: Resources) -> Iterator[dict[str, msgspec.Raw]]:
    """At least one."""
    part: dict[str, msgspec.Raw] = {}
    size = 0
    for name, body in changed.items():
        if part and size + len(body) > _PART_BYTES:
            yield part
            part, size = {}, 0
        part[name] = msgspec.Raw(body)
        size += len(name) + len(body)
    yield part


class Hearing:
    """What one teller has told. It stays when the connection goes, and spares the next one what is known."""

    def __init__(self, resources: Resources = MappingProxyType({})) -> None:
        """`resources` were heard before."""
        self._resources = dict(resources)
        self._coming: dict[str, bytes] = {}

    @property
    def resources(self) -> Resources:
        return self._resources

    @property
    def known(self) -> dict[str, str]:
        return {name: version_of(body) for name, body in self._resources.items()}

    def take(self, news: News) -> bool:
        """Whether the news are complete, and count. Raises Malformed for more than anybody has to keep."""
        for name, raw in news.changed.items():
            body = bytes(raw)
            if len(name) > NAME_CHARACTERS_MAX:
                raise Malformed(f"{name[:100]}…: a name has at most {NAME_CHARACTERS_MAX} characters")
            if len(body) > RESOURCE_BYTES_MAX:
                raise Malformed(
                    f"{name[:100]}: {len(body)} bytes are more than the {RESOURCE_BYTES_MAX} that one resource may have"
                )
            self._coming[name] = body
        _check_bounds(self._coming)
        if news.more:
            return False
        removed = frozenset(news.removed)
        found = {name: body for name, body in {**self._resources, **self._coming}.items() if name not in removed}
        _check_bounds(found)
        self._resources, self._coming = found, {}
        return True

    def interrupted(self) -> None:
        """The connection ended: parts of news that are not complete are forgotten."""
        self._coming = {}


def _check_bounds(resources: Resources) -> None:
    """Raises Malformed for more than anybody has to keep."""
    if len(resources) > RESOURCES_MAX:
        raise Malformed(f"more than {RESOURCES_MAX} resources")
    if sum(len(name) + len(body) for name, body in resources.items()) > WHOLE_BYTES_MAX:
        raise Malformed(f"more than {WHOLE_BYTES_MAX} bytes")
