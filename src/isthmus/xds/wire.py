"""Discovery responses put together from bytes that are encoded already.

Protobuf fields may come in any order and messages may be concatenated, so a response is a short head and the bytes of its resources. The head
has what is one stream's, its nonce; the rest is encoded once for all streams that are due the same, and kept for a while. Field numbers are
those of envoy/service/discovery/v3/discovery.proto.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from weakref import WeakValueDictionary

from isthmus.envoy.resources import Resource

Response = tuple[bytes, ...]
"""An encoded message, in pieces: the large ones are shared."""

_KEPT_BYTES_MAX = 16 * 1024 * 1024
_SMALL_BYTES = 16_000
"""A response up to here is one piece."""


class Encoded:
    """What the streams of a server share: the bodies of responses, and the sets of names that clients subscribe to."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[object, ...], tuple[bytes, Sequence[Resource]]] = OrderedDict()
        self._bytes = 0
        self._names: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
        self._heads: dict[str, bytes] = {}
        self._last_key: tuple[object, ...] = ()
        self._last: Response = ()
        self._last_bodies: list[bytes] = []
        """Kept, so that no other body can come to have the identity of one of them."""
        self.made = 0
        self.shared = 0
        self.sent: dict[str, int] = {}
        """Responses, by type."""
        self.refused: dict[str, int] = {}

    def delta(self, type_url: str, nonce: str, parts: Iterable[Sequence[Resource]], removed: Sequence[str]) -> Response:
        """DeltaDiscoveryResponse: type_url (4), nonce (5), resources (2), removed_resources (6). `parts` are shared each for itself."""
        bodies = [self._body(type_url, part) for part in parts if part]
        # Streams that began together count alike: what the last one was sent is often all that this one is due.
        key = (type_url, nonce, *map(id, bodies), *removed)
        if key == self._last_key:
            return self._last
        known = self._heads.get(type_url)
        if known is None:
            known = self._heads[type_url] = _text(4, type_url)
        head = known + _text(5, nonce) + b"".join([_text(6, name) for name in removed])
        response: Response = (head, *bodies)
        if sum(map(len, response)) <= _SMALL_BYTES:
            response = (b"".join(response),)
        self._last_key, self._last, self._last_bodies = key, response, bodies
        return response

    def count_sent(self, type_url: str) -> None:
        self.sent[type_url] = self.sent.get(type_url, 0) + 1

    def count_refused(self, type_url: str) -> None:
        self.refused[type_url] = self.refused.get(type_url, 0) + 1

    def names(self, names: frozenset[str]) -> frozenset[str]:
        """The same names; for equal ones the same object, as long as somebody has it."""
        known = self._names.get(hash(names))
        if known == names:
            return known
        self._names[hash(names)] = names
        return names

    def _body(self, type_url: str, resources: Sequence[Resource]) -> bytes:
        # The resources are kept with the body, so that no other can come to have the identity of one of them.
        key = (type_url, *map(id, resources))
        known = self._bodies.get(key)
        if known is not None:
            self._bodies.move_to_end(key)
            self.shared += 1
            return known[0]
        self.made += 1
        body = b"".join([_field(2, _delta_resource(type_url, resource)) for resource in resources])
        self._bodies[key] = (body, resources)
        self._bytes += len(body)
        while self._bytes > _KEPT_BYTES_MAX:
            _, (dropped, _) = self._bodies.popitem(last=False)
            self._bytes -= len(dropped)
        return body


def full_response(type_url: str, resources: Iterable[Resource], version: str, nonce: str) -> Response:
    """DiscoveryResponse: version_info (1), resources (2), type_url (4), nonce (5)."""
    parts = [_text(1, version), _text(4, type_url), _text(5, nonce)]
    parts += [_field(2, _any(type_url, resource.body)) for resource in resources]
    return (b"".join(parts),)


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
