"""Header blocks of HTTP/2: a request's, read and judged; a response's, written.

What we write is literal and touches no table (RFC 7541, 6.2.2), so a response's block is the same bytes on every connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_BAD_IN_VALUE = re.compile(rb"[\x00\r\n]")
_OF_A_REQUEST = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_A_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})

NO_TABLE = b"\x20"
"""Says that no dynamic table is used from here on. Begins the first block on a connection, so that no setting of the peer's matters."""

_STATUS_200 = b"\x88"


class Malformed(ValueError):
    """A request's headers break the protocol; the message says how."""


@dataclass(frozen=True, slots=True)
class Request:
    """`metadata` has every other header by lower-case name. One that was sent more than once has its values joined by commas."""

    method: str
    path: str
    metadata: dict[str, str]


def request_of(headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """Raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    metadata: dict[str, str] = {}
    for name, value in headers:
        if name[:1] == b":":
            if metadata or name in pseudo or name not in _OF_A_REQUEST:
                raise Malformed(f"pseudo-header {_shown(name)} is unknown, repeated or late")
            pseudo[name] = value
        elif _TOKEN.match(name) is None:
            raise Malformed(f"{_shown(name)} is not a header name")
        elif name in _OF_A_CONNECTION or (name == b"te" and value != b"trailers"):
            raise Malformed(f"{_shown(name)} has no place in HTTP/2")
        else:
            key = name.decode()
            text = _text(value)
            metadata[key] = f"{metadata[key]},{text}" if key in metadata else text
    missing = {b":method", b":scheme", b":path"} - pseudo.keys()
    if missing or not pseudo[b":path"]:
        raise Malformed("method, scheme and path are required")
    return Request(_text(pseudo[b":method"]), _text(pseudo[b":path"]), metadata)


def response_block(headers: Iterable[tuple[bytes, bytes]], *, status: int | None = 200) -> bytes:
    """`status` is None for trailers."""
    block = bytearray()
    if status == 200:
        block += _STATUS_200
    elif status is not None:
        block += _literal(b":status", str(status).encode())
    for name, value in headers:
        block += _literal(name, value)
    return bytes(block)


def _literal(name: bytes, value: bytes) -> bytes:
    """Without indexing, with a new name."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(value: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, 5.1), and no Huffman code for what follows."""
    if value < 0x7F:
        return bytes((value,))
    out = bytearray((0x7F,))
    value -= 0x7F
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: bytes) -> str:
    if _BAD_IN_VALUE.search(value):
        raise Malformed("a header's value has a line break or a NUL in it")
    return value.decode("latin-1")


def _shown(name: bytes) -> str:
    return repr(name[:40])[1:]
