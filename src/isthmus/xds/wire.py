"""Discovery responses put together from bytes that are encoded already.

Protobuf fields may come in any order and messages may be concatenated, so a response is a short head and the bytes of its resources. The bytes are
encoded once for all streams that are due the same, and kept for a while; the head, with its nonce, is theirs, too, if they are due it one after
another. Field numbers are those of envoy/service/discovery/v3/discovery.proto.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple
from weakref import WeakValueDictionary

from isthmus.envoy.resources import Changes, Resource

Response = tuple[bytes, ...]
"""An encoded message, in pieces: the large ones are shared."""

_KEPT_BYTES_MAX = 16 * 1024 * 1024
_RESOURCE_BYTES = 200
_TOLD_MAX = 16
_SHARED_BYTES = 8_000
"""A part of a resource from here on stands by itself in a response: others send it in other resources."""

_SMALL_BYTES = 16_000
"""A response up to here is one piece."""


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """A delta response. `acknowledgement` is what a client answers that has nothing else to say, encoded as every protobuf library does it."""

    number: int
    nonce: str
    resources: int
    """How many are in it."""
    message: Response
    acknowledgement: bytes


class _Due(NamedTuple):
    """Bodies are kept with their response, so that no other can come to have the identity of one of them."""

    key: tuple[object, ...]
    bodies: list[Response]
    response: Delta


class Interest:
    """What a stream has subscribed to: by type, whether to everything, and to which names. Equal ones are one object."""

    __slots__ = ("__weakref__", "types")

    def __init__(self, types: tuple[tuple[str, bool, frozenset[str]], ...]) -> None:
        self.types = types


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a stream that had everything was sent for some changes: one response of one type, or None."""

    changes: Changes
    interest: Interest
    edition: object
    """Of the resources."""
    type_url: str
    response: Delta | None
    responses: list[Response]
    """The response's message, if there is one."""


class Encoded:
    """What the streams of a server share: the bodies of responses, and the sets of names that clients subscribe to."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[object, ...], tuple[Response, Sequence[Resource]]] = OrderedDict()
        self._not_asked_for: OrderedDict[tuple[object, ...], tuple[Response, Sequence[Resource]]] = OrderedDict()
        """Since the last `forget`."""
        self._bytes = 0
        """Of the bodies, and of what they keep alive: a part that stands in several counts once."""
        self._holding: Counter[int] = Counter()
        """How many bodies have a large part, by its identity."""
        self._names: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
        self._heads: dict[str, bytes] = {}
        self._last: dict[str, _Due] = {}
        """By type."""
        self._number = 0
        self._interests: WeakValueDictionary[tuple[object, ...], Interest] = WeakValueDictionary()
        self._told: dict[tuple[int, int], Told] = {}
        self._told_last: Told | None = None
        self.made = 0
        self.shared = 0
        self.sent: dict[str, int] = {}
        """Responses, by type."""
        self.refused: dict[str, int] = {}

    def number(self) -> int:
        """One that no response has."""
        self._number += 1
        return self._number

    def delta(
        self, type_url: str, parts: Iterable[Sequence[Resource]], removed: Sequence[str], *, after: int = 0
    ) -> Delta:
        """DeltaDiscoveryResponse: type_url (4), nonce (5), resources (2), removed_resources (6). `parts` are shared each for itself.

        Its number is larger than `after`, the last one's on the stream. What the last stream was sent is often all that this one is due.
        """
        parts = [part for part in parts if part]
        bodies = [self._body(type_url, part) for part in parts]
        key = (*map(id, bodies), *removed)
        last = self._last.get(type_url)
        if last is not None and last.key == key and last.response.number > after:
            return last.response
        number = self.number()
        nonce = str(number)
        known = self._heads.get(type_url)
        if known is None:
            known = self._heads[type_url] = _text(4, type_url)
        head = known + _text(5, nonce) + b"".join([_text(6, name) for name in removed])
        response: Response = (head, *chain.from_iterable(bodies))
        if sum(map(len, response)) <= _SMALL_BYTES:
            response = (b"".join(response),)
        found = Delta(number, nonce, sum(map(len, parts)), response, _text(2, type_url) + _text(6, nonce))
        self._last[type_url] = _Due(key, bodies, found)
        return found

    def latest(self, type_url: str) -> Delta:
        """The last response of this type."""
        return self._last[type_url].response

    def interest(self, types: tuple[tuple[str, bool, frozenset[str]], ...]) -> Interest:
        known = self._interests.get(types)
        if known is None:
            known = self._interests[types] = Interest(types)
        return known

    def told(self, changes: Changes, interest: Interest) -> Told | None:
        """What another stream that had everything and wants the same was sent for the same changes."""
        told = self._told_last
        if told is None or told.changes is not changes or told.interest is not interest:
            told = self._told_last = self._told.get((id(changes), id(interest)))
        return told

    def remember(self, told: Told) -> None:
        if len(self._told) >= _TOLD_MAX:
            self._told.clear()
        self._told[id(told.changes), id(told.interest)] = self._told_last = told

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

    def _body(self, type_url: str, resources: Sequence[Resource]) -> Response:
        # The resources are kept with the body, so that no other can come to have the identity of one of them.
        key = (type_url, *map(id, resources))
        known = self._bodies.get(key)
        if known is not None:
            self._bodies.move_to_end(key)
            self.shared += 1
            return known[0]
        known = self._not_asked_for.pop(key, None)
        if known is not None:
            self._bodies[key] = known
            self.shared += 1
            return known[0]
        self.made += 1
        body = tuple(_together(piece for resource in resources for piece in _delta_resource(type_url, resource)))
        self._bodies[key] = (body, resources)
        self._bytes += self._hold(body, resources)
        while self._bytes > _KEPT_BYTES_MAX:
            _, dropped = (self._not_asked_for or self._bodies).popitem(last=False)
            self._bytes -= self._let_go(*dropped)
        return body

    def forget(self) -> None:
        """Lets go what nobody has asked for since the last call. Streams that are due the same are due it within seconds of each other."""
        for body, resources in self._not_asked_for.values():
            self._bytes -= self._let_go(body, resources)
        self._not_asked_for, self._bodies = self._bodies, OrderedDict()

    def _hold(self, body: Response, resources: Sequence[Resource]) -> int:
        """The bytes that it adds. A hundred large route tables, alike but for one section, must not drive out the clusters that all are sent."""
        parts = _large(resources)
        new = sum(len(part) for part in parts if not self._holding[id(part)])
        self._holding.update(map(id, parts))
        return _bytes_beside(parts, body, resources) + new

    def _let_go(self, body: Response, resources: Sequence[Resource]) -> int:
        """The bytes that go with it."""
        parts = _large(resources)
        gone = 0
        for part in parts:
            self._holding[id(part)] -= 1
            if not self._holding[id(part)]:
                del self._holding[id(part)]
                gone += len(part)
        return _bytes_beside(parts, body, resources) + gone


def _large(resources: Sequence[Resource]) -> list[bytes]:
    """What stands in a body as it is: the same object in all that have it."""
    return list({id(part): part for each in resources for part in each.parts if len(part) >= _SHARED_BYTES}.values())


def _bytes_beside(parts: list[bytes], body: Response, resources: Sequence[Resource]) -> int:
    """What a body and its resources take beside these parts: what is small stands in both."""
    return 2 * (sum(map(len, body)) - sum(map(len, parts))) + _RESOURCE_BYTES * len(resources)


def _together(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, in few pieces: small ones are put together, large ones stay the objects that they are."""
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < _SHARED_BYTES:
            small.append(piece)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield piece
    if small:
        yield b"".join(small)


def full_response(type_url: str, resources: Iterable[Resource], version: str, nonce: str) -> Response:
    """DiscoveryResponse: version_info (1), resources (2), type_url (4), nonce (5)."""
    parts = [_text(1, version), _text(4, type_url), _text(5, nonce)]
    parts += [_field(2, _any(type_url, resource.body)) for resource in resources]
    return (b"".join(parts),)


def _delta_resource(type_url: str, resource: Resource) -> Iterator[bytes]:
    """As the field resources (2) of a response. Resource: version (1), resource (2), name (3)."""
    size = sum(map(len, resource.parts))
    before = _text(1, type_url) + _begin(2, size)
    before = _text(1, resource.version) + _begin(2, len(before) + size) + before
    after = _text(3, resource.name)
    yield _begin(2, len(before) + size + len(after)) + before
    yield from resource.parts
    yield after


def _any(type_url: str, body: bytes) -> bytes:
    return _text(1, type_url) + _field(2, body)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return _begin(number, len(body)) + body


def _begin(number: int, size: int) -> bytes:
    """What stands before a length-delimited field's bytes."""
    return bytes(((number << 3) | 2,)) + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
