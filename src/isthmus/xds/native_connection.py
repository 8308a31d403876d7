"""One connection of the native transport: a socket, HTTP/2 on it, and its calls.

It reads one piece in each turn and writes as much as a turn may cost, so a busy peer takes its turn like any other. What is to be sent is asked
for only when the socket can take it; nothing is queued here but the chunk under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from isthmus.xds import http2
from isthmus.xds.calls import (
    HEADERS,
    SMALL_BYTES,
    CallFailed,
    not_a_call,
    one_frame,
    timeout_of,
    trailers,
    whole_message,
)
from isthmus.xds.directory import DELTA, FULL, SERVICE, CallFacts
from isthmus.xds.frames import HEAD_BYTES, Code, data_head
from isthmus.xds.header_blocks import Request
from isthmus.xds.http2_events import Event, Received, Requested
from isthmus.xds.native_calls import AdsCall, Call, Services, UnaryCall

_READ_BYTES = 16_384
_CHUNK_BYTES = 64 * 1024
_TURN_BYTES = 256 * 1024
_UNREAD_BYTES_MAX = 64 * 1024
_UNARY_SECONDS_MAX = 60.0
_ADS = {f"/{SERVICE}/{DELTA}": True, f"/{SERVICE}/{FULL}": False}

Socket = socket.socket | ssl.SSLSocket


class Owner(Protocol):
    """Who keeps the connections."""

    def wants_to_write(self, connection: Connection, wanted: bool) -> None:
        """Whether `writable` shall be called when the socket can take more."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection is over; its socket is closed after this."""
        ...

    def kept(self, count: int) -> bool:
        """Counts bytes of incomplete requests, of all connections; False when there is no room for more."""
        ...


class Connection:
    """`certificate` is the verified peer's (PEM) or empty, `peer` its address as gRPC writes it.

    Nearly always there is one quiet call: nothing waits, nothing was said in part, and what comes next is a short message or its acknowledgement.
    For those, HTTP/2 lends what its windows allow, and hears of it when something else happens.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_certificate",
        "_chunk",
        "_clock",
        "_closed",
        "_closing",
        "_expected",
        "_expected_frame",
        "_frames_sent",
        "_frames_taken",
        "_http2",
        "_in_turn",
        "_lent",
        "_may_send",
        "_may_take",
        "_owner",
        "_quiet",
        "_read",
        "_services",
        "_waiting",
        "_write",
        "asked",
        "finished",
        "heard",
        "moved",
        "peer",
        "socket",
        "used",
        "wants_to_write",
        "was_used",
    )

    def __init__(
        self, sock: Socket, services: Services, owner: Owner, *, certificate: str, peer: str, now: float
    ) -> None:
        self.socket = sock
        self._read: Callable[[int], bytes] = sock.read if isinstance(sock, ssl.SSLSocket) else sock.recv
        self._write: Callable[[bytes | memoryview], int] = sock.write if isinstance(sock, ssl.SSLSocket) else sock.send
        self.peer = peer
        self.heard = self.moved = self.used = now
        """When bytes came last, when some were taken last or began to wait, and when a call was open last."""
        self.asked = False
        """Whether the peer owes a sign of life."""
        self.was_used = False
        """Whether there has ever been a call."""
        self.finished = False
        """Whether nothing will be sent any more, and the peer is to close."""
        self.wants_to_write = False
        self._services = services
        self._owner = owner
        self._certificate = certificate
        self._clock = asyncio.get_running_loop().time
        self._http2 = http2.Connection(http2.Limits())
        self._calls: dict[int, Call] = {}
        self._waiting: dict[Call, None] = {}
        self._chunk: bytes | memoryview = b""
        self._in_turn = False
        self._closing = False
        self._closed = False
        self._quiet: Call | None = None
        self._expected_frame = self._expected = b""
        """What the quiet call's client says next, if all is well: in its frame, and the message."""
        self._lent = (0, 0)
        self._may_send = self._may_take = 0
        """What is left of it."""
        self._frames_sent = self._frames_taken = 0

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

    def readable(self, now: float) -> None:
        """Takes one piece of what has come."""
        try:
            data = self._read(_READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        if self.finished:
            return
        self.heard = now
        self.asked = False
        if self._acknowledges(data):
            return
        self._disturb()
        self._in_turn = True
        for event in self._http2.receive(data, now):
            self._happened(event)
        self._in_turn = False
        if self._calls:
            self.used = now
        unread = self._http2.waiting_bytes
        if self._http2.failed:
            self._forget_calls()
            self._closing = True
        elif unread > _UNREAD_BYTES_MAX and self.wants_to_write:
            self.close()  # It asks, and does not read the answers.
            return
        if self._chunk or self._waiting or self._closing or unread:
            self.writable(now)

    def writable(self, now: float) -> None:
        """Sends what there is, as far as the socket takes it."""
        if self._closed or self.finished:
            return
        self._disturb()
        budget = _TURN_BYTES
        while budget > 0:
            if not self._chunk:
                self._chunk = self._next_chunk()
                if not self._chunk:
                    self._want(False)
                    if self._closing:
                        self._finish()
                    return
            try:
                sent = self._write(self._chunk)
            except (ssl.SSLWantWriteError, BlockingIOError):
                break
            except ssl.SSLWantReadError:
                return
            except OSError:
                self.close()
                return
            self.moved = now
            budget -= sent
            self._services.streams.sent_bytes += sent
            if sent != len(self._chunk):
                self._chunk = memoryview(self._chunk)[sent:]
                continue
            self._chunk = b""
            if not self._waiting and not self._closing and not self._http2.waiting_bytes:
                self._want(False)
                return
        if not self.wants_to_write:
            self.moved = now
            self._want(True)

    def ask(self, now: float) -> None:
        """Asks for a sign of life."""
        self.asked = True
        self._disturb()
        self._http2.ping()
        self.writable(now)

    def leave(self, code: str, message: str, now: float) -> None:
        """Ends all calls with this status, and the connection when that has been sent."""
        for call in list(self._calls.values()):
            call.end(code, message)
        self._disturb()
        self._http2.close(Code.NO_ERROR, message)
        self._closing = True
        self.writable(now)

    def close(self) -> None:
        """At once."""
        if self._closed:
            return
        self._closed = True
        self._quiet = None
        self._forget_calls()
        self._owner.closed(self)
        self.socket.close()

    def _finish(self) -> None:
        """All is said. The peer closes when it has read it; closing first could cost it the last words."""
        self.finished = True
        self.moved = self._clock()
        if isinstance(self.socket, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.socket.unwrap()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_WR)

    # What calls ask for.

    def ready(self, call: Call) -> None:
        self._disturb()
        self._waiting[call] = None
        if not (self._in_turn or self._chunk or self._closed):
            self.writable(self._clock())

    def sent(self, call: Call, message: bytes, answer: bytes) -> bool:
        if (self._quiet is not call and not self._is_quiet(call)) or len(message) > SMALL_BYTES:
            return False
        frame = one_frame(call.stream, message)
        size = len(frame)
        left = self._may_send - size + HEAD_BYTES
        if left < 0:
            return False
        self._may_send = left
        self._frames_sent += 1
        self._expected, self._expected_frame = answer, one_frame(call.stream, answer)
        try:
            sent = self._write(frame)
        except OSError:  # Also of a socket that is full: `writable` finds out what it is.
            sent = 0
        self._services.streams.sent_bytes += sent
        if sent != size:
            self._disturb()
            self._chunk = memoryview(frame)[sent:]
            self.writable(self._clock())
        return True

    def consumed(self, call: Call, count: int) -> None:
        self._disturb()
        self._http2.consumed(call.stream, count)

    # The quiet call.

    def _is_quiet(self, call: Call) -> bool:
        """From now on, if it is true."""
        self._disturb()
        if self._in_turn or self._chunk or self._waiting or self._closing or self._closed or not call.is_quiet:
            return False
        self._lent = self._may_send, self._may_take = self._http2.lend(call.stream)
        self._frames_sent = self._frames_taken = 0
        self._quiet, self._expected_frame = call, b""
        return True

    def _disturb(self) -> None:
        """Something else happens: HTTP/2 hears before of what there was."""
        quiet = self._quiet
        if quiet is not None:
            self._quiet = None
            may_send, may_take = self._lent
            self._http2.repay(
                quiet.stream,
                sent=may_send - self._may_send,
                frames_sent=self._frames_sent,
                taken=may_take - self._may_take,
                frames_taken=self._frames_taken,
            )

    # What happens on the connection.

    def _acknowledges(self, data: bytes) -> bool:
        """Whether this was an acknowledgement and nothing else, as most of what comes; it has been seen to."""
        size = len(data) - HEAD_BYTES
        call: Call | None = self._quiet
        message: bytes | None
        if call is not None and data == self._expected_frame:
            message = self._expected
        else:
            stream = int.from_bytes(data[5:HEAD_BYTES], "big")
            call = self._calls.get(stream)
            if call is None or size <= 0 or data[:HEAD_BYTES] != data_head(stream, size):
                return False
            message = whole_message(data[HEAD_BYTES:])
            if message is None or (self._quiet is not call and not self._is_quiet(call)):
                return False
        if size > self._may_take:
            return False
        self._may_take -= size
        self._frames_taken += 1
        if call.acknowledged(message):
            return True
        self._may_take += size
        self._frames_taken -= 1
        return False

    def _happened(self, event: Event) -> None:
        if isinstance(event, Received):
            call = self._calls.get(event.stream)
            if call is not None:
                self._received(call, event.data, ended=event.ended)
        elif isinstance(event, Requested):
            self._requested(event.stream, event.request, ended=event.ended)
        else:
            self._over(event.stream)

    def _received(self, call: Call, data: bytes, *, ended: bool) -> None:
        more = call.received(data, ended=ended)
        if more and not self._owner.kept(more):
            call.end("RESOURCE_EXHAUSTED", "too many requests are under way")

    def _requested(self, stream: int, request: Request, *, ended: bool) -> None:
        refusal = not_a_call(request)
        if refusal is not None:
            self._http2.end(stream, refusal)
            return
        try:
            call = self._call(stream, request)
        except CallFailed as failed:
            self._http2.end(stream, trailers(failed.code, str(failed), alone=True))
            return
        self._calls[stream] = call
        self.was_used = True
        if ended:
            call.received(b"", ended=True)

    def _call(self, stream: int, request: Request) -> Call:
        facts = CallFacts(metadata=request.metadata, peer_certificate=self._certificate, peer=self.peer)
        seconds = timeout_of(request)
        delta = _ADS.get(request.path)
        if delta is not None:
            return AdsCall(self, stream, self._services, facts, delta=delta, seconds=seconds)
        method = self._services.unary.get(request.path)
        if method is None:
            raise CallFailed("UNIMPLEMENTED", "there is no such method here")
        seconds = _UNARY_SECONDS_MAX if seconds is None else min(seconds, _UNARY_SECONDS_MAX)
        return UnaryCall(self, stream, self._services, method, facts, seconds)

    def _over(self, stream: int) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            self._waiting.pop(call, None)
            self._owner.kept(-call.waiting_bytes)
            call.gone()

    def _forget_calls(self) -> None:
        for stream in list(self._calls):
            self._over(stream)

    # Writing.

    def _next_chunk(self) -> bytes:
        """Control frames first, then a piece of a call's; calls take turns."""
        if not self._waiting:
            return self._http2.take()
        for call in list(self._waiting):
            chunk = self._piece_of(call)
            if chunk:
                return chunk
        return self._http2.take()

    def _piece_of(self, call: Call) -> bytes:
        """What may be sent of the call's now, after whatever frames wait; its end, when all is sent."""
        stream = call.stream
        if call.outbox and not call.answered:
            call.answered = True
            self._http2.respond(stream, HEADERS)
        parts = [self._http2.take()]
        room = _CHUNK_BYTES
        while call.outbox and room > 0:
            message = call.outbox[0]
            count = min(len(message) - call.offset, room, self._http2.window(stream))
            if count <= 0:
                break
            parts.append(self._http2.data(stream, memoryview(message)[call.offset : call.offset + count]))
            room -= count
            call.offset += count
            if call.offset == len(message):
                call.outbox.popleft()
                call.offset = 0
        if not call.outbox:
            self._sent(call)
        elif call in self._waiting:
            del self._waiting[call]
            self._waiting[call] = None
        return b"".join(parts)

    def _sent(self, call: Call) -> None:
        self._waiting.pop(call, None)
        if call.ending is not None:
            code, message = call.ending
            self._http2.end(call.stream, trailers(code, message, alone=not call.answered))
            self._over(call.stream)
            return
        in_turn, self._in_turn = self._in_turn, True
        call.go_on()
        self._in_turn = in_turn

    def _want(self, wanted: bool) -> None:
        if wanted is not self.wants_to_write and not self._closed:
            self.wants_to_write = wanted
            self._owner.wants_to_write(self, wanted)
