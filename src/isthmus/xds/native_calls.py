"""Calls on a connection of the native transport: an ADS stream, or one request and its response.

A call turns messages into messages and knows no socket. What it has to send waits in `outbox` until the connection can take it; while much
waits there, requests wait, too, and the client's window stays closed. So a client that asks and does not read costs what it may, and no more.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from isthmus.xds.calls import CallFailed, Messages, framed
from isthmus.xds.directory import (
    FIRST_REQUEST_SECONDS,
    NO_NODE,
    REQUEST_BYTES_MAX,
    CallFacts,
    Directory,
    Newest,
    Refused,
    Stream,
    Streams,
    Unary,
)
from isthmus.xds.health import health_in
from isthmus.xds.leaving import LEAVING
from isthmus.xds.node import claims_of
from isthmus.xds.session import Session
from isthmus.xds.wire import Response

_OUTBOX_MAX = 24
_ADMISSIONS_AT_ONCE = 64

log = structlog.get_logger()


class Services:
    """What is served, and what all calls of a server share."""

    def __init__(
        self, directory: Directory, unary: dict[str, Unary], streams: Streams, tasks: asyncio.TaskGroup
    ) -> None:
        self.directory = directory
        self.unary = unary
        self.streams = streams
        self.tasks = tasks
        self.admissions = asyncio.Semaphore(_ADMISSIONS_AT_ONCE)
        self.news: deque[AdsCall] = deque()
        """Streams that have newer resources to send, or had when they came here."""
        self.wake: Callable[[], None] = lambda: None
        """Asks for `news` to be seen to."""


class Transport(Protocol):
    """What a call needs of its connection."""

    def ready(self, call: Call) -> None:
        """Something is in the outbox, or the call has ended."""
        ...

    def sent(self, call: Call, message: bytes, answer: bytes) -> bool:
        """Whether the message has been sent at once, past the outbox. If not, nothing has happened. `answer` is what `acknowledged` knows it by."""
        ...

    def consumed(self, call: Call, count: int) -> None:
        """So many bytes of the client's have been used."""
        ...


class Call:
    """One HTTP/2 stream. `ending` (code, message) is set when nothing more will be put into the outbox."""

    __slots__ = (
        "__weakref__",
        "_client_ended",
        "_inbox",
        "_messages",
        "_transport",
        "_unused",
        "answered",
        "ending",
        "offset",
        "outbox",
        "stream",
    )

    def __init__(self, transport: Transport, stream: int) -> None:
        self.stream = stream
        self.outbox: deque[bytes] = deque()
        """Messages in their frames, in pieces."""
        self.offset = 0
        """How much of the first piece in the outbox has been sent."""
        self.answered = False
        self.ending: tuple[str, str] | None = None
        self._transport = transport
        self._messages = Messages(REQUEST_BYTES_MAX)
        self._inbox: deque[bytes] = deque()
        self._unused = 0
        self._client_ended = False

    @property
    def waiting_bytes(self) -> int:
        """What is kept of a message that has not come whole."""
        return self._messages.waiting_bytes

    def received(self, data: bytes, *, ended: bool) -> int:
        """Takes a piece of what the client sends. How many more bytes of incomplete messages are kept now."""
        before = self._messages.waiting_bytes
        self._unused += len(data)
        if ended:
            self._client_ended = True
        if self.ending is None:
            try:
                self._inbox.extend(self._messages.feed(data))
            except CallFailed as failed:
                self.end(failed.code, str(failed))
        self.go_on()
        return self._messages.waiting_bytes - before

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way that `sent` and `acknowledged` could get into."""
        return False

    def acknowledged(self, message: bytes) -> bool:
        """Whether the message says that all is well and nothing else, and has been seen to. Of a quiet call."""
        return False

    def go_on(self) -> None:
        """Sees to the requests that wait, as long as there is room for answers."""
        while self._inbox and self.ending is None and len(self.outbox) < _OUTBOX_MAX and self._may_take():
            try:
                self._take(self._inbox.popleft())
            except CallFailed as failed:
                self.end(failed.code, str(failed))
        if not self._inbox:
            if self._unused:
                self._transport.consumed(self, self._unused)
                self._unused = 0
            if self._client_ended and self.ending is None and self._may_take():
                self._client_done()

    def end(self, code: str, message: str = "") -> None:
        """After what is in the outbox; an error does not wait for that."""
        if self.ending is not None:
            return
        self.ending = (code, message)
        self._inbox.clear()
        if code != "OK":
            self.outbox.clear()
            self.offset = 0
        self._transport.ready(self)

    def gone(self) -> None:
        """The HTTP/2 stream is over, however it ended. Called once."""

    def _may_take(self) -> bool:
        """Whether a request can be seen to now."""
        return True

    def _take(self, message: bytes) -> None:
        """One whole request. Raises CallFailed."""
        raise NotImplementedError

    def _client_done(self) -> None:
        """The client has asked everything that it wanted to."""
        raise NotImplementedError


class UnaryCall(Call):
    """One request, one response, within the caller's deadline."""

    __slots__ = ("_facts", "_method", "_seconds", "_services", "_task")

    def __init__(
        self, transport: Transport, stream: int, services: Services, method: Unary, facts: CallFacts, seconds: float
    ) -> None:
        super().__init__(transport, stream)
        self._services = services
        self._method = method
        self._facts = facts
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def gone(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _take(self, message: bytes) -> None:
        if self._task is not None:
            raise CallFailed("INVALID_ARGUMENT", "this method takes one request")
        self._task = self._services.tasks.create_task(self._answer(message), name=f"call of {self._facts.peer}")

    def _client_done(self) -> None:
        if self._task is None:
            self.end("INVALID_ARGUMENT", "there was no request")

    async def _answer(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                async with self._services.admissions:
                    answer = await self._method(message, self._facts)
        except Refused as refused:
            self.end(refused.code, refused.message)
        except TimeoutError:
            self.end("DEADLINE_EXCEEDED", f"no answer within {self._seconds:g} s")
        except Exception:  # Our own mistake: this call fails, the others go on.
            log.error("a call failed", peer=self._facts.peer, traceback=traceback.format_exc())
            self.end("INTERNAL", "the control plane made a mistake: see its log")
        else:
            self.outbox.extend(framed((answer,)))
            self.end("OK")


class AdsCall(Call):
    """An ADS stream: the shell around its `Session`."""

    __slots__ = (
        "_admission",
        "_deadline",
        "_facts",
        "_feed",
        "_listed",
        "_parse",
        "_services",
        "_session",
        "_timer",
    )

    def __init__(
        self,
        transport: Transport,
        stream: int,
        services: Services,
        facts: CallFacts,
        *,
        delta: bool,
        seconds: float | None,
    ) -> None:
        super().__init__(transport, stream)
        self._services = services
        self._facts = facts
        self._session = Session(delta=delta, encoded=services.streams.encoded)
        loop = asyncio.get_running_loop()
        self._parse: Callable[[bytes], Any] = (
            discovery_pb2.DeltaDiscoveryRequest if delta else discovery_pb2.DiscoveryRequest
        ).FromString
        self._admission: asyncio.Task[None] | None = None
        self._feed: Newest | None = None
        self._listed: Stream | None = None
        self._timer = loop.call_later(FIRST_REQUEST_SECONDS, self._nobody_spoke)
        self._deadline = None if seconds is None else loop.call_later(seconds, self._too_late)

    def publish(self) -> None:
        """Sends what is new. Called by the server, which takes care that nobody has to wait for long."""
        news = self._feed.taken() if self._feed is not None else None
        if news is not None and self.ending is None:
            self._send(self._session.publish(*news))

    @property
    def is_quiet(self) -> bool:
        unread = self._inbox or self._messages.waiting_bytes or self._client_ended
        return self._feed is not None and self.answered and not (unread or self.outbox or self.ending)

    def acknowledged(self, message: bytes) -> bool:
        responses = self._session.acknowledged(message)
        if responses is None:
            return False
        if responses:
            self._send(responses)
        return True

    def gone(self) -> None:
        self._timer.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._admission is not None:
            self._admission.cancel()
        if self._listed is not None:
            self._services.streams.remove(self._listed)
        if self._feed is not None:
            self._services.directory.gone(self._feed)
            self._feed = None

    def _may_take(self) -> bool:
        return self._admission is None

    def _take(self, message: bytes) -> None:
        if self._feed is not None:
            self._receive(self._decoded(message))
        else:
            self._timer.cancel()
            self._admission = self._services.tasks.create_task(
                self._admit(message), name=f"admit from {self._facts.peer}"
            )

    def _decoded(self, message: bytes) -> Any:
        try:
            return self._parse(message)
        except DecodeError:
            raise CallFailed("INTERNAL", "the request is not what this method takes") from None

    def _receive(self, request: Any) -> None:
        assert self._feed is not None, "admitted"
        health = health_in(request)
        if health is not None:
            self._services.directory.told(self._feed, health)
        elif request.type_url == LEAVING:
            self._services.directory.leaves(self._feed)
        else:
            self._send(self._session.receive(request))

    def _client_done(self) -> None:
        self.end("OK")

    async def _admit(self, message: bytes) -> None:
        """Its turn comes before it is decoded: what thousands say who come at once takes several times the room then."""
        try:
            async with self._services.admissions:
                request = self._decoded(message)
                del message
                if not request.node.id:
                    raise CallFailed("INVALID_ARGUMENT", NO_NODE)
                claims = claims_of(request.node)
                self._feed = await self._services.directory.admit(claims, self._facts)
        except (Refused, CallFailed) as refused:
            self.end(refused.code, str(refused))
            return
        except Exception:  # Our own mistake: this client is refused, the others go on.
            log.error("a proxy could not be admitted", peer=self._facts.peer, traceback=traceback.format_exc())
            self.end("INTERNAL", "the control plane made a mistake: see its log")
            return
        finally:
            self._admission = None
        self._listed = self._services.streams.add(claims, self._facts, self._session)
        self._feed.listen(self._news)
        self._feed.end = lambda: self.end("OK")
        self._receive(request)
        self.publish()
        self.go_on()

    def _send(self, responses: list[Response]) -> None:
        if not responses:
            return
        first = responses[0]
        if len(responses) == len(first) == 1 and self._transport.sent(self, first[0], self._session.expected):
            return
        for response in responses:
            self.outbox.extend(framed(response))
        self._transport.ready(self)

    def _news(self) -> None:
        if not self._services.news:
            self._services.wake()
        self._services.news.append(self)

    def _nobody_spoke(self) -> None:
        self.end("INVALID_ARGUMENT", NO_NODE)

    def _too_late(self) -> None:
        self.end("DEADLINE_EXCEEDED", "the caller's deadline has passed")
