"""One question to a name table, asked and answered in the wire format that applications use, without any server."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.dns.answers import NameTable, Verdict, answer
from isthmus.model.views import NameRecord

_TYPES = {"A": 1, "CNAME": 5, "AAAA": 28}
_NAMES = {number: name for name, number in _TYPES.items()}
_CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_INTERNET = 1
_POINTER = 0xC0
_POINTERS_MAX = 16


def query(table: Mapping[str, Any], name: str, kind: str) -> dict[str, Any]:
    """`{"rcode", "answers": [{"name", "type", "ttl", "data"}]}`. What the table does not have, `upstream` in it answers.

    Raises ValueError for a type that is not asked for here, and for a table of the wrong shape.
    """
    if kind not in _TYPES:
        raise ValueError(f"type {kind!r} is not asked for here: use {', '.join(_TYPES)}")
    packet = question(name, kind)
    reply = answer(packet, _prepared(table), over_udp=False)
    if isinstance(reply, Verdict):
        return _upstream(table.get("upstream") or {}, name, kind)
    return read_reply(reply)


def _prepared(table: Mapping[str, Any]) -> NameTable:
    _, _, dns_domain = str(table.get("proxyDomain", "")).partition(".svc.")
    return NameTable.prepare(
        [record for host, entry in (table.get("nameTable") or {}).items() for record in _records(str(host), entry)],
        namespace=str(table.get("proxyNamespace", "")),
        dns_domain=dns_domain or "cluster.local",
        search_domains=[str(each) for each in table.get("searchDomains") or ()],
    )


def _records(host: str, entry: object) -> Iterator[NameRecord]:
    """The name itself, and those that it has besides."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"nameTable.{host}: is not an object")
    for spelling in (host, *map(str, entry.get("altHosts") or ())):
        yield NameRecord(
            host=spelling.lower(),
            ips=tuple(entry.get("ips") or ()),
            registry=str(entry.get("registry", "")),
            short_name=str(entry.get("shortname", "")) if spelling == host else "",
            namespace=str(entry.get("namespace", "")),
        )


def _upstream(known: Mapping[str, Any], name: str, kind: str) -> dict[str, Any]:
    found = known.get(name.rstrip(".").lower() + ".") or known.get(name.rstrip(".").lower())
    if isinstance(found, Mapping) and kind in found:
        data = found[kind] if isinstance(found[kind], list) else [found[kind]]
        owner = name.rstrip(".") + "."
        return {"rcode": "NOERROR", "answers": [{"name": owner, "type": kind, "ttl": 0, "data": each} for each in data]}
    code = found if isinstance(found, str) else known.get("*", "NXDOMAIN")
    return {"rcode": str(code), "answers": []}


def question(name: str, kind: str, identifier: int = 1) -> bytes:
    """The packet that asks for a name's records of a type. Raises ValueError for what is not a host name."""
    labels = [label.encode() for label in name.removesuffix(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels) or sum(map(len, labels)) + len(labels) > 254:
        raise ValueError(f"{name!r} is not a host name")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", identifier, 0x0100, 1, 0, 0, 0) + wire + struct.pack("!2H", _TYPES[kind], _INTERNET)


def read_reply(reply: bytes) -> dict[str, Any]:
    """What an answer says, in the form that `query` gives. Bytes that are none raise ValueError, IndexError or struct.error."""
    _, flags, questions, answers, _, _ = struct.unpack_from("!6H", reply)
    position = 12
    for _ in range(questions):
        _, position = _name(reply, position)
        position += 4
    found = []
    for _ in range(answers):
        owner, position = _name(reply, position)
        kind, _, ttl, size = struct.unpack_from("!2HIH", reply, position)
        position += 10
        found.append(
            {"name": owner, "type": _NAMES.get(kind, str(kind)), "ttl": ttl, "data": _data(reply, kind, position, size)}
        )
        position += size
    return {"rcode": _CODES.get(flags & 0xF, str(flags & 0xF)), "answers": found}


def _data(reply: bytes, kind: int, position: int, size: int) -> str:
    if kind == _TYPES["CNAME"]:
        return _name(reply, position)[0]
    data = reply[position : position + size]
    return str(ipaddress.ip_address(data)) if kind in _NAMES else data.hex()


def _name(reply: bytes, position: int) -> tuple[str, int]:
    """The name with its last dot, and where what follows it begins (RFC 1035, section 4.1.4)."""
    labels: list[str] = []
    after = 0
    for _ in range(_POINTERS_MAX * 8):
        length = reply[position]
        if length >= _POINTER:
            after = after or position + 2
            position = int.from_bytes(reply[position : position + 2]) & 0x3FFF
        elif length:
            labels.append(reply[position + 1 : position + 1 + length].decode(errors="replace"))
            position += 1 + length
        else:
            return ".".join(labels) + ".", after or position + 1
    raise ValueError("a name in the answer leads in a circle")
