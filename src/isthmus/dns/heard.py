"""Answers that name servers gave, given again for as long as they hold. No I/O and no clock: the time is handed in.

Applications ask for names outside the mesh as often as for those inside, and with search domains most of what they ask for does not exist. An
answer holds for the shortest time that a record in it says; that there is no such name or record, for what the zone's SOA record says (RFC
2308). Never longer than a few seconds: whoever changes a name expects callers to notice.

Times are counted down in what is given again, so that nobody further on keeps it for longer than it holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.dns.answers import NOERROR, NXDOMAIN, OPT, can_be_asked_again, end_of_name

SECONDS_MAX = 5
_KEPT_MAX = 2048
_BYTES_MAX = 1232
"""What servers commonly put into one datagram: larger answers are rare, and not worth their room."""
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_SECONDS = struct.Struct("!I")
_SOA = 6
_TRUNCATED = 0x0200
_POINTER = 0xC0


@dataclass(slots=True)
class _Kept:
    """An answer without its identifier, as of `age` seconds after `since`; from `until` it does not hold any more. `places` are where its
    records say how long they do.
    """

    body: bytes
    since: float
    until: float
    places: tuple[int, ...]
    age: int = 0

    def at(self, now: float) -> bytes:
        passed = int(now - self.since) - self.age
        if passed:
            counted = bytearray(self.body)
            for place in self.places:
                [seconds] = _SECONDS.unpack_from(counted, place)
                _SECONDS.pack_into(counted, place, max(0, seconds - passed))
            self.body, self.age = bytes(counted), self.age + passed
        return self.body


class HeardAnswers:
    """By the bytes of the question but for its identifier, as its asker wrote them."""

    def __init__(self) -> None:
        self._kept: dict[bytes, _Kept] = {}

    def find(self, packet: bytes, now: float) -> bytes | None:
        """The answer to this question, if there is one that still holds."""
        found = self._kept.get(packet[2:])
        return packet[:2] + found.at(now) if found is not None and now < found.until else None

    def keep(self, packet: bytes, reply: bytes, now: float) -> None:
        """What a name server has just answered, unless it does not hold, or says that it is no answer."""
        if len(reply) > _BYTES_MAX or not can_be_asked_again(packet):
            return
        try:
            seconds, places = _holds(reply)
        except (struct.error, IndexError):
            return
        if seconds > 0:
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            until = now + min(seconds, SECONDS_MAX)
            self._kept[packet[2:]] = _Kept(reply[2:], now, until, tuple(place - 2 for place in places))


def _holds(reply: bytes) -> tuple[int, list[int]]:
    """For how many seconds, and where in it records say theirs. Raises struct.error or IndexError for what cannot be read."""
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(reply)
    if flags & _TRUNCATED or flags & 0xF not in (NOERROR, NXDOMAIN) or questions != 1:
        return 0, []
    places, times, negative = [], [], 0
    for kind, place, seconds, data in _records(reply):
        if kind == OPT:
            continue
        places.append(place)
        times.append(seconds)
        if kind == _SOA:
            negative = min(seconds, _SECONDS.unpack_from(data, len(data) - 4)[0])
    if answers and flags & 0xF == NOERROR:
        return min(times, default=0), places
    return min([negative, *times]), places


def _records(reply: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Of all sections: type, where its time is, the time, its data."""
    _, _, _, *counts = _HEADER.unpack_from(reply)
    position = (end_of_name(reply, _HEADER.size) or len(reply)) + 4
    for _ in range(sum(counts)):
        position = _after_name(reply, position)
        kind, _, seconds, size = _RECORD.unpack_from(reply, position)
        yield kind, position + 4, seconds, reply[position + _RECORD.size : position + _RECORD.size + size]
        position += _RECORD.size + size


def _after_name(reply: bytes, position: int) -> int:
    """A pointer ends a name; where it points to does not matter here."""
    while reply[position]:
        if reply[position] >= _POINTER:
            return position + 2
        position += 1 + reply[position]
    return position + 1
