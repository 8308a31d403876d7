"""Watches: one stream of events to each client, each event encoded once for all clients that want it in the same form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from isthmus.apiserver import tables
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.selectors import Matches
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Event, Object, Store, Stored, served_as

_encode = msgspec.json.Encoder().encode
_BACKLOG_MAX = 10_000
"""Events that a client may be behind; a slower one is let go, and lists anew."""

_BOOKMARK_SECONDS = 60.0
JSON, TABLE, METADATA = "json", "table", "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What a client asked for. `since` is None for "from now, with what there is"; `form` is JSON, TABLE or METADATA."""

    namespace: str
    labels: Matches | None
    fields: Matches | None
    since: int | None
    timeout_seconds: float
    bookmarks: bool
    initial_events: bool
    form: str

    def matches(self, obj: Object) -> bool:
        if self.namespace and obj["metadata"].get("namespace", "") != self.namespace:
            return False
        return (self.labels is None or self.labels(obj)) and (self.fields is None or self.fields(obj))


_Backlog = asyncio.Queue[bytes | None]
"""Frames that a client has yet to get; None ends its stream."""


class _Frames:
    """Encoded events of one version of a kind, shared by clients. The last one is enough: clients hear of an event one after another."""

    def __init__(self) -> None:
        self._last: tuple[int, str, str, bytes] | None = None

    def of(self, kind: Kind, type_: str, stored: Stored, form: str) -> bytes:
        last = self._last
        if last is not None and last[:3] == (stored.version, type_, form):
            return last[3]
        frame = event_line(kind, type_, stored, form)
        self._last = (stored.version, type_, form, frame)
        return frame


class Watches:
    """Serves watch requests over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frames: dict[tuple[str, str], _Frames] = {}
        self._backlogs: set[_Backlog] = set()
        self._closed = False

    def close(self) -> None:
        """Ends all streams; later ones end at once."""
        self._closed = True
        for backlog in self._backlogs:
            backlog.put_nowait(None)

    async def serve(self, request: web.Request, kind: Kind, options: WatchOptions) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        backlog: _Backlog = asyncio.Queue()
        frames = self._frames.setdefault((kind.storage, kind.version), _Frames())

        def heard(event: Event) -> None:
            if event.version <= started:
                return
            frame = _frame(kind, event, options, frames)
            if frame is None:
                return
            if backlog.qsize() >= _BACKLOG_MAX:
                self._store.unwatch(kind, heard)
                backlog.put_nowait(None)
            else:
                backlog.put_nowait(frame)

        started = self._store.version if options.since is None else options.since
        try:
            missed = (
                self._store.watch(kind, started, heard)
                if options.since is not None
                else self._from_now(kind, started, heard)
            )
        except Refused as refusal:
            await response.prepare(request)
            await response.write(_encode({"type": "ERROR", "object": refusal.status}) + b"\n")
            return response
        self._backlogs.add(backlog)
        try:
            await response.prepare(request)
            first = self._beginning(kind, options, started, missed, frames)
            if first:
                await response.write(b"".join(first))
            await self._follow(request, response, backlog, kind, options)
        finally:
            self._backlogs.discard(backlog)
            self._store.unwatch(kind, heard)
        return response

    def _from_now(self, kind: Kind, started: int, heard: Callable[[Event], None]) -> list[Event]:
        self._store.watch(kind, max(started, self._store.oldest_version), heard)
        return []

    def _beginning(
        self, kind: Kind, options: WatchOptions, started: int, missed: list[Event], frames: _Frames
    ) -> list[bytes]:
        """What there is already, where the client wants it, and what happened since the version that it named."""
        lines = []
        if options.since is None or options.initial_events:
            lines += [
                event_line(kind, "ADDED", s, options.form) for s in self._store.items(kind) if options.matches(s.obj)
            ]
        else:
            lines += [frame for event in missed if (frame := _frame(kind, event, options, frames)) is not None]
        if options.initial_events:
            lines.append(bookmark(kind, self._store.version, options.form, initial_events_end=True))
        return lines

    async def _follow(
        self, request: web.Request, response: web.StreamResponse, backlog: _Backlog, kind: Kind, options: WatchOptions
    ) -> None:
        """Until the client goes, is too slow, its time is over, or the server stops."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + options.timeout_seconds
        if self._closed:
            backlog.put_nowait(None)
        while (left := ends - loop.time()) > 0:
            batch = await _next_batch(backlog, min(left, _BOOKMARK_SECONDS))
            if request.transport is None or request.transport.is_closing():
                return
            if not batch and options.bookmarks:
                await response.write(bookmark(kind, self._store.published, options.form))
            elif batch:
                await response.write(b"".join(part for part in batch if part is not None))
            if None in batch:
                break
        await response.write_eof()


async def _next_batch(backlog: _Backlog, seconds: float) -> list[bytes | None]:
    """Everything that waits, as soon as there is something; nothing when the time is over."""
    try:
        async with asyncio.timeout(seconds):
            batch = [await backlog.get()]
    except TimeoutError:
        return []
    while not backlog.empty():
        batch.append(backlog.get_nowait())
    return batch


def _frame(kind: Kind, event: Event, options: WatchOptions, frames: _Frames) -> bytes | None:
    """An object that enters the selection is ADDED to it, one that leaves it is DELETED, with its old body and the new version."""
    now = event.type != "DELETED" and options.matches(event.new.obj)
    before = event.old is not None and options.matches(event.old.obj)
    if now:
        return frames.of(kind, "MODIFIED" if before else "ADDED", event.new, options.form)
    if not before or event.old is None:
        return None
    if event.type == "DELETED":
        return frames.of(kind, "DELETED", event.new, options.form)
    left = event.old.obj | {"metadata": event.old.obj["metadata"] | {"resourceVersion": str(event.version)}}
    return event_line(kind, "DELETED", Stored(event.version, left, _encode(left)), options.form)


def event_line(kind: Kind, type_: str, stored: Stored, form: str) -> bytes:
    """One line of a watch. In TABLE form only the first row of a stream needs column definitions, but all may have them."""
    if form == JSON:
        return b'{"type":"' + type_.encode() + b'","object":' + served_as(kind, stored).raw + b"}\n"
    if form == TABLE:
        body: Any = tables.table(kind, [stored.obj], str(stored.version), head=True)
    else:
        body = partial_metadata(stored.obj)
    return _encode({"type": type_, "object": body}) + b"\n"


def bookmark(kind: Kind, version: int, form: str, *, initial_events_end: bool = False) -> bytes:
    """How far the client has come. In the form that the client decodes, which for a Table has no rows."""
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    name, version_name = {
        JSON: (kind.name, kind.group_version),
        TABLE: ("Table", "meta.k8s.io/v1"),
        METADATA: ("PartialObjectMetadata", "meta.k8s.io/v1"),
    }[form]
    body: Object = {"kind": name, "apiVersion": version_name, "metadata": metadata}
    if form == TABLE:
        body |= {"columnDefinitions": None, "rows": []}
    return _encode({"type": "BOOKMARK", "object": body}) + b"\n"


def partial_metadata(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
