"""Watches: one stream of events to each client, each event encoded once for all clients that want it in the same form."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import HttpVersion11, web

from isthmus.apiserver import tables
from isthmus.apiserver.connections import Connection, connection_of
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.selectors import Matches
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Event, Object, Store, Stored, served_as, stored_as

_encode = msgspec.json.Encoder().encode
_BACKLOG_MAX = 10_000
"""Events that a client may be behind; a slower one is let go, and lists anew."""

_BACKLOG_BYTES_MAX = 16 * 1024 * 1024

_BOOKMARK_SECONDS = 60.0
JSON, TABLE, METADATA = "json", "table", "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What a client asked for. `since` is None for "from now, with what there is"; `form` is JSON, TABLE or METADATA."""

    namespace: str
    labels: Matches | None
    fields: Matches | None
    of_metadata: bool
    """Whether `fields` are all of metadata, so that nobody need look further into an object."""
    since: int | None
    timeout_seconds: float
    bookmarks: bool
    initial_events: bool
    form: str
    selectors: tuple[str, str]
    """As the client wrote them: of labels, and of fields."""

    @property
    def selects(self) -> bool:
        return self.labels is not None or self.fields is not None

    def matches(self, stored: Stored) -> bool:
        if self.namespace and stored.name[0] != self.namespace:
            return False
        if self.labels is not None and not self.labels(stored.outline):
            return False
        return self.fields is None or self.fields(stored.outline if self.of_metadata else stored.obj)

    def chosen(self, there: Iterable[Stored]) -> list[Stored]:
        """Of those that are in the namespace, if one is named."""
        return [stored for stored in there if self.matches(stored)] if self.selects else list(there)


class _Frames:
    """Encoded events of one version of a kind, shared by clients. The last one is enough: clients hear of an event one after another."""

    def __init__(self) -> None:
        self._last: tuple[int, str, str, bytes] | None = None

    def of(self, kind: Kind, type_: str, stored: Stored, form: str) -> bytes:
        last = self._last
        if last is not None and last[:3] == (stored.version, type_, form):
            return last[3]
        frame = _chunk(event_line(kind, type_, stored, form))
        self._last = (stored.version, type_, form, frame)
        return frame


class _Stream:
    """What one client is sent: at once while it reads, from a bounded backlog when it is behind. `since` is what it knows already."""

    def __init__(self, connection: Connection, since: int, *, chunked: bool) -> None:
        self.since = since
        self._connection = connection
        self._chunked = chunked
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._at_once = False
        self._wake = asyncio.Event()
        self.ended = False
        """Whether nothing more will come: the server stops, or the client is too slow."""

    def send(self, frame: bytes) -> bool:
        """Whether the client keeps up. One that does not is sent what it has waiting, and no more."""
        if self._at_once and self._connection.stalled_since is None:
            self._write(frame)
            return True
        self._at_once = False
        if len(self._backlog) >= _BACKLOG_MAX or self._backlog_bytes >= _BACKLOG_BYTES_MAX:
            self.end()
            return False
        self._backlog.append(frame)
        self._backlog_bytes += len(frame)
        self._wake.set()
        return True

    def end(self) -> None:
        self.ended = True
        self._wake.set()

    async def follow(self, seconds: float) -> bool:
        """Sends what waits, and whatever comes until there is something to wait for. False if nothing came in that time."""
        while self._backlog:
            # What a client can get at once is bounded, however much there is.
            while self._backlog and not self._connection.writing_paused:
                frame = self._backlog.popleft()
                self._backlog_bytes -= len(frame)
                self._write(frame)
            await self._connection.drained()
        self._at_once = not self.ended
        self._wake.clear()
        if self.ended:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def write(self, frames: Iterator[bytes]) -> None:
        """What the client begins with, as fast as it reads."""
        for frame in frames:
            self._write(frame)
            if self._connection.writing_paused:
                await self._connection.drained()

    def _write(self, frame: bytes) -> None:
        transport = self._connection.transport
        if transport is not None:
            transport.write(frame if self._chunked else _unchunked(frame))


def _chunk(line: bytes) -> bytes:
    """As it goes over the wire (RFC 9112, 7.1), so that it is framed once for all clients."""
    return b"%x\r\n%b\r\n" % (len(line), line)


def _unchunked(chunk: bytes) -> bytes:
    """For a client of HTTP/1.0."""
    return chunk[chunk.index(b"\r\n") + 2 : -2]


class _Audience:
    """Clients that have chosen the same of one kind: whether an event is for them, and what they are sent of it, is found out once."""

    def __init__(self, key: tuple[str, ...], kind: Kind, options: WatchOptions, frames: _Frames) -> None:
        self.key = key
        self.kind = kind
        self.streams: dict[_Stream, None] = {}
        self._options = options
        self._frames = frames

    def frame(self, event: Event) -> bytes | None:
        return _frame(self.kind, event, self._options, self._frames)

    def heard(self, event: Event) -> None:
        frame = self.frame(event)
        if frame is None:
            return
        version = event.version
        slow = [stream for stream in self.streams if version > stream.since and not stream.send(frame)]
        for stream in slow:
            del self.streams[stream]


class Watches:
    """Serves watch requests over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frames: dict[tuple[str, str], _Frames] = {}
        self._audiences: dict[tuple[str, ...], _Audience] = {}
        self._streams: set[_Stream] = set()
        self._closed = False

    def close(self) -> None:
        """Ends all streams; later ones end at once."""
        self._closed = True
        for stream in self._streams:
            stream.end()

    async def serve(self, request: web.BaseRequest, kind: Kind, options: WatchOptions) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        connection = connection_of(request)
        started = self._store.version if options.since is None else options.since
        stream = _Stream(connection, started, chunked=request.version >= HttpVersion11)
        try:
            audience, missed = self._joined(kind, options, stream)
        except Refused as refusal:
            await response.prepare(request)
            await response.write(_encode({"type": "ERROR", "object": refusal.status}) + b"\n")
            return response

        def lost() -> None:
            self._leave(audience, stream)
            stream.end()

        self._streams.add(stream)
        connection.on_lost = lost
        try:
            beginning = self._beginning(audience, options, missed)
            await response.prepare(request)
            await stream.write(beginning)
            await self._follow(stream, kind, options)
            if connection.transport is not None:
                await response.write_eof()
        finally:
            connection.on_lost = None
            self._streams.discard(stream)
            self._leave(audience, stream)
        return response

    def _joined(self, kind: Kind, options: WatchOptions, stream: _Stream) -> tuple[_Audience, list[Event]]:
        """The audience that the client is now one of, and what it has missed since the version that it named. Raises Refused (Expired)."""
        key = (kind.storage, kind.version, options.namespace, options.form, *options.selectors)
        audience = self._audiences.get(key)
        if audience is None or audience.kind is not kind:  # A custom kind may have been defined anew.
            frames = self._frames.setdefault((kind.storage, kind.version), _Frames())
            audience = _Audience(key, kind, options, frames)
        since = stream.since if options.since is not None else max(stream.since, self._store.oldest_version)
        missed = self._store.watch(kind, since, audience.heard)
        audience.streams[stream] = None
        self._audiences[key] = audience
        return audience, missed if options.since is not None else []

    def _leave(self, audience: _Audience, stream: _Stream) -> None:
        audience.streams.pop(stream, None)
        if not audience.streams:
            self._store.unwatch(audience.kind, audience.heard)
            if self._audiences.get(audience.key) is audience:
                del self._audiences[audience.key]

    def _beginning(self, audience: _Audience, options: WatchOptions, missed: list[Event]) -> Iterator[bytes]:
        """What there is already, where the client wants it, and what happened since the version that it named.

        Of one moment, though the client reads it over some time: objects are never changed, only replaced.
        """
        if options.since is not None and not options.initial_events:
            return (frame for event in missed if (frame := audience.frame(event)) is not None)
        kind = audience.kind
        present = options.chosen(self._store.items(kind, options.namespace))
        lines = (_chunk(event_line(kind, "ADDED", stored, options.form)) for stored in present)
        if not options.initial_events:
            return lines
        end = bookmark(kind, self._store.version, options.form, initial_events_end=True)
        return itertools.chain(lines, [_chunk(end)])

    async def _follow(self, stream: _Stream, kind: Kind, options: WatchOptions) -> None:
        """Until the client goes, is too slow, its time is over, or the server stops."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + options.timeout_seconds
        if self._closed:
            stream.end()
        while (left := ends - loop.time()) > 0 and not stream.ended:
            if not await stream.follow(min(left, _BOOKMARK_SECONDS)) and options.bookmarks:
                stream.send(_chunk(bookmark(kind, self._store.published, options.form)))


def _frame(kind: Kind, event: Event, options: WatchOptions, frames: _Frames) -> bytes | None:
    """An object that enters the selection is ADDED to it, one that leaves it is DELETED, with its old body and the new version."""
    now = event.type != "DELETED" and options.matches(event.new)
    before = event.old is not None and options.matches(event.old)
    if now:
        return frames.of(kind, "MODIFIED" if before else "ADDED", event.new, options.form)
    if not before or event.old is None:
        return None
    if event.type == "DELETED":
        return frames.of(kind, "DELETED", event.new, options.form)
    left = event.old.obj | {"metadata": event.old.obj["metadata"] | {"resourceVersion": str(event.version)}}
    return _chunk(event_line(kind, "DELETED", stored_as(event.version, left), options.form))


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
