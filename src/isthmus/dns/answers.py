"""Answers: a DNS question and a name table in, an answer out. No I/O; whatever bytes come in, nothing is raised.

Addresses of known names are answered here; everything else is `FORWARD`ed to the Pod's own name servers. Before the first table the
answer is SERVFAIL, so that applications ask again instead of believing that a name does not exist.

Wire format: RFC 1035 section 4; EDNS: RFC 6891. Only the question is read, so compression pointers never have to be followed.

Applications ask the same questions again and again, in the same bytes but for the identifier. So a table remembers what it answered to which
bytes: then an answer is a look-up and two slices. A new table remembers nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from isthmus.model.views import NameRecord

TTL_SECONDS = 30
A, CNAME, OPT, AAAA, ANY_CLASS, INTERNET = 1, 5, 41, 28, 255, 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_TAIL = struct.Struct("!HH")
_RESPONSE = 0x8000
_AUTHORITATIVE = 0x0400
_TRUNCATED = 0x0200
_RECURSION_AVAILABLE = 0x0080
_KEPT_FLAGS = 0x7900
"""Opcode and "recursion desired" are echoed."""

_LABEL_BYTES_NEVER = 64
"""One more than a label may have (RFC 1035 section 2.3.4)."""

_NONE = b"\0\0"
"""No additional records, in the header; no options, at the end of an OPT record."""

_PLAIN = b"\x01\0\0\1\0\0\0\0\0\0"
"""Of the header, after the identifier: recursion is desired, one question, and nothing else."""

_PLAIN_BYTES_MAX = 12 + 255 + 4
_UDP_BYTES = 512
_UDP_BYTES_MAX = 4096
_NAME_POINTER = b"\xc0\x0c"
"""Points at the question's name, which always starts after the 12 bytes of the header."""


_REMEMBERED_MAX = 2048


class Verdict(Enum):
    FORWARD = "forward"
    """Not ours to answer."""
    IGNORE = "ignore"
    """Not a question: answering could start a loop."""


@dataclass(frozen=True, slots=True)
class Known:
    """A name's addresses, as record data by type, and the record that they are of. `alias_of` is the real name where this one is a
    search-domain spelling of it.
    """

    record: NameRecord
    a: tuple[bytes, ...]
    aaaa: tuple[bytes, ...]
    alias_of: bytes = b""


class NameTable:
    """Every spelling of every name, from the point of view of one namespace."""

    def __init__(self, names: dict[bytes, Known]) -> None:
        self._names = names
        self._said: dict[bytes, bytes | Verdict | _InTurn] = {}
        self._patterns: dict[tuple[bytes, bytes], _Pattern] = {}
        """By what stands below a wildcard's star, and what is asked for."""
        self._wildcards = {name[2:]: known for name, known in names.items() if name.startswith(b"\x01*")}

    @staticmethod
    def prepare(
        records: Iterable[NameRecord], *, namespace: str, dns_domain: str, search_domains: Sequence[str] = ()
    ) -> NameTable:
        """Kubernetes names get their short spellings, and every name its search-domain spelling, so that one question is enough."""
        names: dict[bytes, Known] = {}
        aliases: dict[bytes, Known] = {}
        for record in records:
            known = _known(record)
            domain = search_domains[0] if search_domains else ""
            for spelling in _spellings(record, namespace, dns_domain):
                names[encoded(spelling)] = known
                if domain and not spelling.endswith(domain):
                    alias = Known(record, known.a, known.aaaa, encoded(spelling))
                    aliases[encoded(f"{spelling.rstrip('.')}.{domain}")] = alias
        return NameTable({**aliases, **names})

    def find(self, name: bytes) -> Known | None:
        """By the name in wire format and lower case."""
        known = self._names.get(name)
        if known is not None or not self._wildcards:
            return known
        while name and name[0]:
            name = name[1 + name[0] :]
            if name in self._wildcards:
                return self._wildcards[name]
        return None

    def __len__(self) -> int:
        return len(self._names)

    def datagram(self, packet: bytes, turn: int) -> bytes | Verdict:
        """`answer` over UDP, remembered."""
        question = packet[2:]
        said = self._said.get(question)
        if said is None:
            said = self._by_pattern(packet)
        if said is None:
            said = _said(packet, self, over_udp=True)
            # What is asked once, in bytes that nobody sends again, must not take the place of what is asked often.
            if can_be_asked_again(packet):
                if len(self._said) >= _REMEMBERED_MAX:
                    self._said.clear()
                self._said[question] = said
        if isinstance(said, bytes):
            return packet[:2] + said
        return said if isinstance(said, Verdict) else packet[:2] + said.at(turn)

    def _by_pattern(self, packet: bytes) -> bytes | _InTurn | None:
        """Names below a wildcard are often asked for once, and answered alike: what `_said` says of the first is said of the others.

        None for what is no plain question for such a name; a name that leads label by label to a wildcard is a name.
        """
        if not self._wildcards or packet[2:12] != _PLAIN or len(packet) > _PLAIN_BYTES_MAX:
            return None
        name = packet[12:-4].lower()
        if name in self._names:
            return None
        while name and 0 < name[0] < _LABEL_BYTES_NEVER:
            name = name[1 + name[0] :]
            if name in self._wildcards:
                break
        else:
            return None
        key = (name, packet[-4:])
        pattern = self._patterns.get(key)
        if pattern is None:
            said = _said(packet, self, over_udp=True)
            if len(self._patterns) >= _REMEMBERED_MAX:
                self._patterns.clear()
            self._patterns[key] = pattern = _Pattern.of(said, len(packet))
        return pattern.around(packet)


@dataclass(frozen=True, slots=True)
class _InTurn:
    """An answer, without its identifier, of which some records take turns; `kept` of them fit."""

    head: bytes
    records: tuple[bytes, ...]
    kept: int

    def at(self, turn: int) -> bytes:
        first = turn % len(self.records)
        return self.head + b"".join((self.records[first:] + self.records[:first])[: self.kept])


@dataclass(frozen=True, slots=True)
class _Pattern:
    """An answer without its identifier and its question. One of which something was left out is none: `bytes_max` is that of its question."""

    flags: bytes
    rest: bytes
    records: tuple[bytes, ...]
    bytes_max: int

    @staticmethod
    def of(said: bytes | Verdict | _InTurn, packet_bytes: int) -> _Pattern:
        if isinstance(said, Verdict):
            return _Pattern(b"", b"", (), 0)
        head, records = (said, ()) if isinstance(said, bytes) else (said.head, said.records)
        rest = head[packet_bytes - 2 :]
        is_whole = not head[0] & _TRUNCATED >> 8
        room = _UDP_BYTES - len(rest) - sum(map(len, records)) if is_whole else 0
        return _Pattern(head[:10], rest, records, room)

    def around(self, packet: bytes) -> bytes | _InTurn | None:
        if len(packet) > self.bytes_max:
            return None
        head = self.flags + packet[12:] + self.rest
        return _InTurn(head, self.records, len(self.records)) if self.records else head


def answer(packet: bytes, table: NameTable | None, *, over_udp: bool, turn: int = 0) -> bytes | Verdict:
    """The answer to a packet. `turn` rotates the addresses, so that clients that take the first one share the load."""
    said = _said(packet, table, over_udp=over_udp)
    if isinstance(said, Verdict):
        return said
    return packet[:2] + (said if isinstance(said, bytes) else said.at(turn))


def _said(packet: bytes, table: NameTable | None, *, over_udp: bool) -> bytes | Verdict | _InTurn:
    """The answer without its identifier, for every turn."""
    if len(packet) < _HEADER.size:
        return Verdict.IGNORE
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(packet)
    if flags & _RESPONSE:
        return Verdict.IGNORE
    if (flags >> 11) & 0xF:
        return failure(packet, NOTIMP)[2:]
    end = end_of_name(packet, _HEADER.size)
    if questions != 1 or answers or end is None or end + 4 > len(packet):
        return failure(packet, FORMERR if questions else SERVFAIL)[2:]
    kind, class_ = _QUESTION_TAIL.unpack_from(packet, end)
    if table is None:
        return failure(packet, SERVFAIL)[2:]
    known = table.find(packet[_HEADER.size : end].lower()) if class_ in (INTERNET, ANY_CLASS) else None
    if known is None:
        return Verdict.FORWARD
    if kind not in (A, AAAA) or class_ != INTERNET:
        return _reply(packet, end + 4, b"", (), over_udp=over_udp)
    alias = _record(_NAME_POINTER, CNAME, known.alias_of) if known.alias_of else b""
    data = known.a if kind == A else known.aaaa
    records = tuple(_record(known.alias_of or _NAME_POINTER, kind, item) for item in data)
    return _reply(packet, end + 4, alias, records, over_udp=over_udp)


def failure(packet: bytes, code: int) -> bytes:
    """The packet's question, as far as it can be read, with an error code."""
    identifier, flags, *_ = _HEADER.unpack_from(packet)
    end = end_of_name(packet, _HEADER.size)
    question = packet[_HEADER.size : end + 4] if end is not None and end + 4 <= len(packet) else b""
    header = _HEADER.pack(
        identifier, _RESPONSE | (flags & _KEPT_FLAGS) | _RECURSION_AVAILABLE | code, bool(question), 0, 0, 0
    )
    return header + question


def is_answer_to(reply: bytes, packet: bytes) -> bool:
    """Whether an upstream's reply belongs to the question that was forwarded: same identifier, same question."""
    end = end_of_name(packet, _HEADER.size)
    if len(reply) < _HEADER.size or end is None:
        return False
    same_question = reply[_HEADER.size : end + 4].lower() == packet[_HEADER.size : end + 4].lower()
    return reply[:2] == packet[:2] and bool(reply[2] & 0x80) and same_question


def room_over_udp(packet: bytes) -> int:
    """How long an answer to this question may be over UDP."""
    end = end_of_name(packet, _HEADER.size)
    return _UDP_BYTES if end is None else _room(packet, end + 4)


def _reply(
    packet: bytes, question_end: int, alias: bytes, records: tuple[bytes, ...], *, over_udp: bool
) -> bytes | _InTurn:
    """As much as fits: an alias first, then records, which are all as long."""
    room = (_room(packet, question_end) if over_udp else 65535) - question_end
    kept_alias = alias if len(alias) <= room else b""
    each = len(records[0]) if records else 1
    kept = min(len(records), (room - len(kept_alias)) // each) if kept_alias == alias else 0
    flags = int.from_bytes(packet[2:4])
    response = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (flags & _KEPT_FLAGS)
    if kept < len(records) or kept_alias != alias:
        response |= _TRUNCATED
    header = _HEADER.pack(0, response, 1, kept + bool(kept_alias), 0, 0)[2:]
    head = header + packet[_HEADER.size : question_end] + kept_alias
    return _InTurn(head, records, kept) if len(records) > 1 and kept else head + b"".join(records[:kept])


def _room(packet: bytes, question_end: int) -> int:
    """How much the client takes over UDP: what its OPT record says, within reason."""
    if packet[10:12] != _NONE and len(packet) >= question_end + 11 and packet[question_end] == 0:
        kind, size = _QUESTION_TAIL.unpack_from(packet, question_end + 1)
        if kind == OPT:
            return min(max(int(size), _UDP_BYTES), _UDP_BYTES_MAX)
    return _UDP_BYTES


def _record(name: bytes, kind: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, INTERNET, TTL_SECONDS, len(data)) + data


def can_be_asked_again(packet: bytes) -> bool:
    """In the same bytes: not with options at its end, which may be different each time (RFC 7873: cookies)."""
    return len(packet) <= _UDP_BYTES and (packet[10:12] == _NONE or packet[-2:] == _NONE)


def end_of_name(packet: bytes, position: int) -> int | None:
    """Where the name that starts here ends; None if it is cut off, too long, or compressed (a question has nothing to point to)."""
    start = position
    while position < len(packet):
        length = packet[position]
        position += 1
        if length == 0:
            return position
        if length > 63 or position - start + length > 255:
            return None
        position += length
    return None


def _known(record: NameRecord) -> Known:
    addresses = [ip_address(ip) for ip in record.ips]
    return Known(
        record,
        tuple(address.packed for address in addresses if address.version == 4),
        tuple(address.packed for address in addresses if address.version == 6),
    )


def _spellings(record: NameRecord, namespace: str, dns_domain: str) -> Iterable[str]:
    yield record.host
    if record.registry != "Kubernetes" or not record.host.endswith(f".svc.{dns_domain}"):
        return
    yield f"{record.short_name}.{record.namespace}"
    yield f"{record.short_name}.{record.namespace}.svc"
    if record.namespace == namespace:
        yield record.short_name


def encoded(name: str) -> bytes:
    """In wire format. A label that is too long is cut: whoever asked for it would be told FORMERR, so the entry is never found."""
    labels = [label.encode()[:_LABEL_BYTES_NEVER] for label in name.lower().rstrip(".").split(".")]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\x00"
