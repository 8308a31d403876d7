"""`/debug/why`, `/debug/why-not` and `/debug/dns`: the questions of `isthmus why` and `isthmus dns explain` about a proxy that is connected here,
answered from what it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from isthmus.assurance.explaining.absence import why_not
from isthmus.assurance.explaining.asked import Asked, BadQuestion
from isthmus.assurance.explaining.lookups import explain_name, resolver_for
from isthmus.assurance.explaining.questions import why
from isthmus.assurance.traffic.request import Request
from isthmus.controlplane.delivery import Delivery

Object = dict[str, Any]


class Questions:
    """Answers from the newest snapshot."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def why(self, request: web.Request) -> Object:
        """`proxyID`, `service`, `port`; and how the client asks: `path`, `method`, `header=NAME=VALUE` (repeatable)."""
        query = request.query
        port = query.get("port", "0")
        if not port.isdecimal():
            raise web.HTTPBadRequest(text=f"port {port!r} is not a number\n")
        headers = tuple(
            (name, value) for name, _, value in (each.partition("=") for each in query.getall("header", []))
        )
        asks = Request(port=int(port), path=query.get("path", "/"), method=query.get("method", "GET"), headers=headers)
        return await self._answer(request, lambda asked: why(asked, _needed(request, "service"), int(port), asks))

    async def why_not(self, request: web.Request) -> Object:
        """`proxyID`, `endpoint`."""
        return await self._answer(request, lambda asked: why_not(asked, _needed(request, "endpoint")))

    async def dns(self, request: web.Request) -> Object:
        """`proxyID`, `name`, `type` (A or AAAA); and where the client's resolver is not Kubernetes' own, `ndots` and `search` (repeatable)."""
        query = request.query
        kind, ndots, search = query.get("type", "A"), query.get("ndots", ""), tuple(query.getall("search", []))
        if kind not in ("A", "AAAA") or not (ndots or "0").isdecimal():
            raise web.HTTPBadRequest(text="type is A or AAAA, and ndots a number\n")
        wanted = (search, int(ndots) if ndots else None)
        return await self._answer(
            request, lambda asked: explain_name(asked, _needed(request, "name"), kind, resolver_for(asked, *wanted))
        )

    async def _answer(self, request: web.Request, question: Callable[[Asked], Object]) -> Object:
        name = request.query.get("proxyID", "")
        proxy, snapshot = self._delivery.find(name), self._delivery.tables.snapshot
        if proxy is None or snapshot is None:
            raise web.HTTPNotFound(text=f"no proxy {name!r} is connected here\n")
        try:
            # Of a large mesh the whole configuration takes a second to compute: elsewhere than where pushes wait for their turn.
            return await asyncio.to_thread(lambda: question(Asked.about(proxy, snapshot)))
        except BadQuestion as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None


def _needed(request: web.Request, name: str) -> str:
    found = request.query.get(name, "")
    if not found:
        raise BadQuestion(f"say which {name}")
    return found
