"""gRPC on top of HTTP/2, without I/O: messages in their frames, what a call's headers say, how a call ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

from isthmus.xds import frames
from isthmus.xds.header_blocks import Request, response_block

MESSAGE_HEAD_BYTES = 5
_SHOWN_BYTES_MAX = 1024
SMALL_BYTES = 16_000
"""A message up to here is one piece, and fits into one DATA frame."""
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS_EACH = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_CONTENT = (b"content-type", b"application/grpc")

STATUS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""The numbers of gRPC's status codes."""

HEADERS = response_block([_CONTENT])
"""What every response begins with."""

NOT_POST = response_block([], status=405)
NOT_GRPC = response_block([], status=415)


class CallFailed(Exception):
    """The call ends with this status."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Messages:
    """The messages of one direction of a call, from pieces of data. At most `bytes_max` each; what is kept is less than one message."""

    __slots__ = ("_bytes_max", "_data", "waiting_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._data: bytes | bytearray = b""
        self.waiting_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. Raises CallFailed for one that is too long, or compressed."""
        buffer: bytes | bytearray = data
        if self._data:
            self._data += data
            buffer = self._data
        at = 0
        found = []
        while len(buffer) - at >= MESSAGE_HEAD_BYTES:
            if buffer[at]:
                raise CallFailed("UNIMPLEMENTED", "compressed messages are not taken here")
            length = int.from_bytes(buffer[at + 1 : at + MESSAGE_HEAD_BYTES], "big")
            if length > self._bytes_max:
                raise CallFailed("RESOURCE_EXHAUSTED", f"a message of {length} bytes; {self._bytes_max} are the most")
            end = at + MESSAGE_HEAD_BYTES + length
            if end > len(buffer):
                break
            found.append(bytes(buffer[at + MESSAGE_HEAD_BYTES : end]))
            at = end
        if at or buffer is data:
            self._data = bytearray(buffer[at:])
        self.waiting_bytes = len(self._data)
        return found


def whole_message(data: bytes) -> bytes | None:
    """The message, if this is one and no more, not compressed."""
    size = len(data) - MESSAGE_HEAD_BYTES
    if size < 0 or data[:MESSAGE_HEAD_BYTES] != size.to_bytes(MESSAGE_HEAD_BYTES, "big"):
        return None
    return data[MESSAGE_HEAD_BYTES:]


def framed(message: Sequence[bytes]) -> list[bytes]:
    """A message, not compressed, with its head. Small pieces are put together; large ones stay what they are, as others send them, too."""
    size = sum(map(len, message))
    head = b"\0" + size.to_bytes(4, "big")
    if size <= SMALL_BYTES:
        return [b"".join((head, *message))]
    return [head + message[0], *(piece for piece in message[1:] if piece)]


@lru_cache(maxsize=16)
def one_frame(stream: int, message: bytes) -> bytes:
    """A short message, not compressed, in one DATA frame. Many clients are sent the same on the same stream, one after another."""
    return frames.frame(frames.Kind.DATA, 0, stream, b"".join(framed((message,))))


def not_a_call(request: Request) -> bytes | None:
    """The response's headers for a request that is no gRPC call; None for one that is."""
    if request.method != "POST":
        return NOT_POST
    if not request.metadata.get("content-type", "").startswith("application/grpc"):
        return NOT_GRPC
    return None


def timeout_of(request: Request) -> float | None:
    """Seconds until the caller gives up; None if it never does. Raises CallFailed."""
    text = request.metadata.get("grpc-timeout")
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise CallFailed("INVALID_ARGUMENT", "grpc-timeout is not a time")
    return int(found[1]) * _SECONDS_EACH[found[2]]


def trailers(code: str, message: str = "", *, alone: bool) -> bytes:
    """How a call ends; `alone` when no headers were sent before."""
    ending = [(b"grpc-status", str(STATUS[code]).encode())]
    if message:
        shown = quote(message.encode()[:_SHOWN_BYTES_MAX], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
        ending.append((b"grpc-message", shown.encode()))
    if alone:
        return response_block([_CONTENT, *ending])
    return response_block(ending, status=None)
