"""A compaction of etcd: what was before it is forgotten, in the middle of a list and under a watch. Only of servers whose etcd we may ask."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import ENDPOINT_SLICES
from isthmus.kubernetes.watch import Change, plain

_ETCD = os.environ["ISTHMUS_CONFORMANCE_ETCD"]
_SECONDS = 90.0
_OVER_A_PAGE = 505
"""More than a reflector asks for at once."""


async def compact() -> None:
    """Everything up to now. Revisions of etcd are the server's resource versions."""
    async with aiohttp.ClientSession(_ETCD) as session:
        key = base64.b64encode(b"/").decode()
        async with session.post("/v3/kv/range", json={"key": key}) as answer:
            revision = (await answer.json())["header"]["revision"]
        async with session.post("/v3/kv/compaction", json={"revision": revision, "physical": True}) as answer:
            assert answer.status == 200, await answer.text()


@pytest.fixture
def slices(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def endpoint_slice(name: str, address: str = "198.51.100.1") -> dict[str, Any]:
    return {"metadata": {"name": name}, "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": []}


async def test_a_list_that_was_begun_before_it_is_begun_anew_or_goes_on_as_of_its_moment(server, slices):
    """A server may have kept what etcd has forgotten, and give the rest of that."""
    for number in range(4):
        await server.made(slices, endpoint_slice(f"s{number}"))
    page = await server.get(slices, limit="2")
    await server.made(slices, endpoint_slice("later"))

    await compact()

    rest = await server.get(slices, limit="9", **{"continue": page.body["metadata"]["continue"]})
    if rest.code == 410:
        assert rest.body["reason"] == "Expired"
    else:
        assert [item["metadata"]["name"] for item in rest.body["items"]] == ["s2", "s3"]


class Line:
    """What comes at its port goes to the server, until it is cut."""

    def __init__(self, server: str) -> None:
        where = urlsplit(server)
        self._to = (where.hostname, where.port)
        self._carried: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        async with await asyncio.start_server(self._enter, "127.0.0.1", 0) as listener:
            self.port = listener.sockets[0].getsockname()[1]
            yield self
            self.cut()

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._carried:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        inner_reader, inner_writer = await asyncio.open_connection(*self._to)
        both = {writer, inner_writer}
        self._carried |= both
        await asyncio.gather(_carry(reader, inner_writer), _carry(inner_reader, writer), return_exceptions=True)
        self._carried -= both


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def told(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["metadata"]["resourceVersion"], obj["endpoints"][0]["addresses"][0]


async def test_a_reflector_ends_with_what_the_server_has(server, slices, namespace):
    """It missed changes and deletions, and etcd has forgotten the version that it knows; the server may have kept it. Only what changed is told."""
    for number in range(_OVER_A_PAGE):
        await server.made(slices, endpoint_slice(f"s{number:03}"))
    changes: list[Change[Any]] = []
    moved = asyncio.Event()

    def changed(batch: list[Change[Any]]) -> None:
        changes.extend(batch)
        moved.set()

    async def until_equal() -> None:
        items = (await server.get(slices)).body["items"]
        wanted = {(namespace, item["metadata"]["name"]): told(item) for item in items}
        async with asyncio.timeout(_SECONDS):
            while {name: told(value) for name, value in reflector.values.items()} != wanted:
                moved.clear()
                await moved.wait()

    async with Line(server.address.server).open() as line:
        address = replace(server.address, server=f"https://127.0.0.1:{line.port}")
        async with ApiClient(address) as client, asyncio.TaskGroup() as tasks:
            reflector = Reflector(client, ENDPOINT_SLICES, plain, changed, namespace=namespace)
            running = tasks.create_task(reflector.run())
            await until_equal()
            changes.clear()

            line.cut()
            for number in range(10):
                await server.call("DELETE", f"{slices}/s{number:03}")
            changed = endpoint_slice("s100", "198.51.100.2")
            assert (await server.call("PUT", f"{slices}/s100", changed)).code == 200
            await server.made(slices, endpoint_slice("new"))
            await compact()
            line.mend()

            await until_equal()
            running.cancel()
    gone = {change.name[1] for change in changes if change.new is None}
    assert gone == {f"s{number:03}" for number in range(10)}
    assert {change.name[1] for change in changes} - gone == {"s100", "new"}
