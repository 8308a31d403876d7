"""Whom a server asks which resources a client may have: for tests that are about what is between them."""

from __future__ import annotations

from isthmus.envoy.resources import ResourceSet
from isthmus.xds.directory import CallFacts, Newest


class Doors:
    """Open to everybody. Remembers who came, and gives all of them one thing."""

    def __init__(self, first: ResourceSet) -> None:
        self.first = first
        self.came: list[CallFacts] = []
        self.feeds: dict[Newest, None] = {}

    async def admit(self, claims: object, call: CallFacts) -> Newest:
        self.came.append(call)
        feed = Newest()
        feed.put(self.first)
        self.feeds[feed] = None
        return feed

    def gone(self, feed: Newest) -> None:
        del self.feeds[feed]

    def told(self, feed: Newest, health: object) -> None:
        raise AssertionError("nobody here says how it is")

    def leaves(self, feed: Newest) -> None:
        raise AssertionError("nobody here has a better one")
