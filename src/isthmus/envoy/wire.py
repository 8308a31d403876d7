"""Protobuf fields by hand, to splice large messages from parts that are encoded already.

Fields written in ascending order of their numbers give the bytes that protobuf's own deterministic serialization gives.
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """An unsigned number, seven bits to the byte."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field: int, value: int) -> bytes:
    """A field of an integer, boolean or enum type; nothing for 0, which is how proto3 says it."""
    return varint(field << 3) + varint(value) if value else b""


_SHORT_HEADS = [[bytes((field << 3 | 2, size)) for size in range(0x80)] for field in range(16)]
"""The first two bytes of a field, for nearly all there are."""


def block(field: int, payload: bytes) -> bytes:
    """A field that holds a message, a string or bytes, present even when empty."""
    if field < 16 and len(payload) < 0x80:
        return _SHORT_HEADS[field][len(payload)] + payload
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def text(field: int, value: str) -> bytes:
    """A string field; nothing for the empty string."""
    return block(field, value.encode()) if value else b""
