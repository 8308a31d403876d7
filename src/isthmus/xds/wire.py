"""Discovery responses put together from bytes that are encoded already.

Protobuf fields may come in any order and messages may be concatenated, so a response is its resources' bytes, each in its frame, and a short
head. Field numbers are those of envoy/service/discovery/v3/discovery.proto.
"""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.envoy.resources import Resource


def delta_response(type_url: str, resources: Iterable[Resource], removed: Iterable[str], nonce: str) -> bytes:
    """DeltaDiscoveryResponse: resources (2), type_url (4), nonce (5), removed_resources (6)."""
    parts = [_text(4, type_url), _text(5, nonce)]
    parts += [_field(2, _delta_resource(type_url, resource)) for resource in resources]
    parts += [_text(6, name) for name in removed]
    return b"".join(parts)


def full_response(type_url: str, resources: Iterable[Resource], version: str, nonce: str) -> bytes:
    """DiscoveryResponse: version_info (1), resources (2), type_url (4), nonce (5)."""
    parts = [_text(1, version), _text(4, type_url), _text(5, nonce)]
    parts += [_field(2, _any(type_url, resource.body)) for resource in resources]
    return b"".join(parts)


def _delta_resource(type_url: str, resource: Resource) -> bytes:
    """Resource: version (1), resource (2), name (3)."""
    return _text(1, resource.version) + _field(2, _any(type_url, resource.body)) + _text(3, resource.name)


def _any(type_url: str, body: bytes) -> bytes:
    return _text(1, type_url) + _field(2, body)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return bytes(((number << 3) | 2,)) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
