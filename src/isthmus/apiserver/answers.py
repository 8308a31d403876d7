"""Answers: one object in the form that the client wants, documents with tags, and the server's own JSON."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import msgspec
from aiohttp import web

from isthmus.apiserver import bodies, tables
from isthmus.apiserver.connections import connection_of
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import no_such_path
from isthmus.apiserver.store import Object, Store, Stored, name_of, served_as
from isthmus.apiserver.watching import JSON, TABLE, partial_metadata

_encode = msgspec.json.Encoder().encode
_PIECE_BYTES = 256 * 1024


def one(request: web.BaseRequest, kind: Kind, stored: Stored, *, status: int = 200) -> web.Response:
    """An object, a Table with one row, or its metadata."""
    form = bodies.wanted_form(request)
    if form == JSON:
        return web.Response(body=served_as(kind, stored).raw, status=status, content_type="application/json")
    if form == TABLE:
        return json(tables.table(kind, [stored.obj], str(stored.version), head=True), status=status)
    return json(partial_metadata(stored.obj), status=status)


def changed(request: web.BaseRequest, kind: Kind, obj: Object, store: Store, *, status: int = 200) -> web.Response:
    """What a writer gets back: the object as it is now. Mostly that is what is stored, which is JSON already."""
    stored = store.find(kind, name_of(obj))
    if stored is not None and stored.obj is obj:
        return one(request, kind, stored, status=status)
    version = int(obj["metadata"].get("resourceVersion") or 0)
    return one(request, kind, Stored(version, obj, _encode(obj)), status=status)


async def joined(request: web.BaseRequest, head: bytes, items: list[bytes], tail: bytes) -> web.StreamResponse:
    """Items with commas between them. A long answer is sent as its client reads it, so that a slow one holds no copy."""
    length = len(head) + sum(map(len, items)) + max(len(items) - 1, 0) + len(tail)
    if length <= _PIECE_BYTES or request.method == "HEAD":
        return web.Response(body=head + b",".join(items) + tail, content_type="application/json")
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


def json(body: Object, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type=content_type)


def found(body: Object | None) -> web.Response:
    if body is None:
        raise no_such_path()
    return json(body)


def tagged(request: web.BaseRequest, body: Object) -> web.Response:
    """With an ETag: clients that have it get 304."""
    raw = _encode(body)
    tag = f'"{hashlib.sha256(raw).hexdigest()[:32].upper()}"'
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    kind, version = body.get("kind"), str(body.get("apiVersion", "")).rpartition("/")[2]
    response = web.Response(body=raw, content_type="application/json", headers=headers)
    if kind == "APIGroupDiscoveryList":
        response.headers["Content-Type"] = (
            f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        )
    return response
