"""Answers: one object in the form that the client wants, documents with tags, and the server's own JSON."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache

import msgspec
from aiohttp import HttpVersion11, web

from isthmus.apiserver import bodies, tables
from isthmus.apiserver.connections import connection_of
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import no_such_path
from isthmus.apiserver.store import Object, Store, Stored, name_of, served_as, stored_as
from isthmus.apiserver.watching import JSON, TABLE, partial_metadata

_encode = msgspec.json.Encoder().encode
_PIECE_BYTES = 256 * 1024


class Answer(web.StreamResponse):
    """A whole body. It goes out in one piece with its head: one write to the connection, one record of TLS."""

    def __init__(
        self, body: bytes, *, status: int = 200, content_type: str = "application/json", name: str = ""
    ) -> None:
        super().__init__(status=status)
        self.name = name
        """Of the object that it is about, if it is about one."""
        self._bytes = body
        self._type = content_type

    async def prepare(self, request: web.BaseRequest) -> None:
        """Sends all of it. Raises ConnectionError if the client has gone."""
        connection = connection_of(request)
        if connection.transport is None:
            raise ConnectionResetError("the client has gone")
        self._eof_sent = True
        self._keep_alive = request.keep_alive
        connection.transport.write(
            self._head(request) + self._bytes if request.method != "HEAD" else self._head(request)
        )
        if connection.writing_paused:
            await connection.drained()

    def _head(self, request: web.BaseRequest) -> bytes:
        version = request.version
        more = "".join([_line(name, value) for name, value in self.headers.items()])
        if version < HttpVersion11:
            more += "Connection: keep-alive\r\n" if self._keep_alive else ""
        elif not self._keep_alive:
            more += "Connection: close\r\n"
        return (
            f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}\r\nContent-Type: {self._type}\r\n"
            f"Content-Length: {len(self._bytes)}\r\nDate: {_date(int(time.time()))}\r\n{more}\r\n"
        ).encode()


def _line(name: str, value: str) -> str:
    """Of the head. Raises ValueError for what would be more than one: whoever put it there has not looked at it."""
    if "\r" in value or "\n" in value:
        raise ValueError(f"the header {name} would be several lines")
    return f"{name}: {value}\r\n"


@lru_cache(maxsize=1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def one(request: web.BaseRequest, kind: Kind, stored: Stored, *, status: int = 200) -> Answer:
    """An object, a Table with one row, or its metadata."""
    form, name = bodies.wanted_form(request), stored.name[1]
    if form == JSON:
        return Answer(served_as(kind, stored).raw, status=status, name=name)
    if form == TABLE:
        return json(tables.table(kind, [stored.obj], str(stored.version), head=True), status=status, name=name)
    return json(partial_metadata(stored.obj), status=status, name=name)


def changed(request: web.BaseRequest, kind: Kind, obj: Object, store: Store, *, status: int = 200) -> Answer:
    """What a writer gets back: the object as it is now. Mostly that is what is stored, which is JSON already."""
    stored = store.find(kind, name_of(obj))
    if stored is not None and stored.obj is obj:
        return one(request, kind, stored, status=status)
    return one(request, kind, stored_as(int(obj["metadata"].get("resourceVersion") or 0), obj), status=status)


def raw(body: bytes | None, content_type: str = "application/json") -> web.Response:
    """What is encoded already. Raises Refused for None."""
    if body is None:
        raise no_such_path()
    return web.Response(body=body, headers={"Content-Type": content_type})


async def joined(request: web.BaseRequest, head: bytes, items: list[bytes], tail: bytes) -> web.StreamResponse:
    """Items with commas between them. A long answer is sent as its client reads it, so that a slow one holds no copy."""
    length = len(head) + sum(map(len, items)) + max(len(items) - 1, 0) + len(tail)
    if length <= _PIECE_BYTES or request.method == "HEAD":
        return Answer(head + b",".join(items) + tail)
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(length)})
    connection = connection_of(request)
    async with asyncio.timeout(connection.limits.answer_seconds):
        await response.prepare(request)
        await response.write(head)
        for piece in _pieces(items):
            await response.write(piece)
            await connection.drained()
        await response.write_eof(tail)
    return response


def _pieces(items: list[bytes]) -> Iterator[bytes]:
    """The items joined to pieces of about the size that is sent at once."""
    start = size = 0
    for position, item in enumerate(items):
        size += len(item)
        if size >= _PIECE_BYTES:
            yield (b"," if start else b"") + b",".join(items[start : position + 1])
            start, size = position + 1, 0
    if start < len(items):
        yield (b"," if start else b"") + b",".join(items[start:])


def json(body: Object, *, status: int = 200, content_type: str = "application/json", name: str = "") -> Answer:
    return Answer(_encode(body), status=status, content_type=content_type, name=name)


def found(body: Object | None) -> Answer:
    if body is None:
        raise no_such_path()
    return json(body)


def tagged(request: web.BaseRequest, body: Object) -> web.StreamResponse:
    """With an ETag: clients that have it get 304."""
    raw = _encode(body)
    tag = f'"{hashlib.sha256(raw).hexdigest()[:32].upper()}"'
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    kind, version = body.get("kind"), str(body.get("apiVersion", "")).rpartition("/")[2]
    content_type = "application/json"
    if kind == "APIGroupDiscoveryList":
        content_type += f";g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    response = Answer(raw, content_type=content_type)
    response.headers.extend(headers)
    return response
