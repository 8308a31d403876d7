"""HTTP/2 frames as bytes (RFC 9113): numbers, building, and the two ways in which a peer can be wrong."""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
FRAME_BYTES = 16_384
"""The largest frame that we take, and that every peer takes: the protocol's own default."""

WINDOW_MAX = 2**31 - 1
WINDOW_DEFAULT = 65_535


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


"""Kind and flags of nearly every frame."""


class Code(IntEnum):
    """Error codes, on RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """Settings that mean something to a server."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

_HEAD = struct.Struct(">HBBBL")


class ConnectionFault(Exception):
    """What the peer did ends the connection: GOAWAY with this code."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamFault(Exception):
    """What the peer did ends one stream: RST_STREAM with this code."""

    def __init__(self, stream: int, code: Code, message: str) -> None:
        super().__init__(message)
        self.stream = stream
        self.code = code


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes that a frame begins with."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


@lru_cache(maxsize=64)
def data_head(stream: int, length: int) -> bytes:
    """What a DATA frame begins with that is one of many: `length` is that of its payload."""
    return head(Kind.DATA, 0, stream, length)


def settings(values: dict[Setting, int]) -> bytes:
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HL", key, value) for key, value in values.items()))


def window_update(stream: int, bytes_more: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">L", bytes_more))


def reset(stream: int, code: Code) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, struct.pack(">L", code))


def go_away(last_stream: int, code: Code, message: str = "") -> bytes:
    return frame(Kind.GOAWAY, 0, 0, struct.pack(">LL", last_stream, code) + message.encode()[:200])


def data_frames(stream: int, payload: bytes | memoryview, frame_bytes: int = FRAME_BYTES) -> bytes:
    """A payload cut into DATA frames."""
    size = len(payload)
    if size <= frame_bytes:
        return head(Kind.DATA, 0, stream, size) + payload
    parts: list[bytes | memoryview] = []
    view = memoryview(payload)
    for start in range(0, size, frame_bytes):
        piece = view[start : start + frame_bytes]
        parts += (head(Kind.DATA, 0, stream, len(piece)), piece)
    return b"".join(parts)


def unpadded(flags: int, payload: bytes) -> bytes:
    """Raises ConnectionFault."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]
