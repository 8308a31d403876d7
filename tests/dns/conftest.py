"""DNS messages, written and read the long way round: this reader follows compression pointers, the product never has to."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from isthmus.dns.answers import NameTable
from isthmus.model.views import NameRecord

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP"}
KINDS = {number: name for name, number in TYPES.items()}


@dataclass(frozen=True)
class Reply:
    """`records` as `name type data`, in the order of the message."""

    identifier: int
    code: str
    flags: int
    question: tuple[str, str] | None
    records: list[str]

    @property
    def truncated(self) -> bool:
        return bool(self.flags & 0x0200)

    @property
    def addresses(self) -> list[str]:
        return [record.split()[2] for record in self.records if record.split()[1] != "CNAME"]


class Messages:
    """`ask` writes a question, `read` reads an answer completely: nothing may be left over."""

    @staticmethod
    def ask(
        name: str, kind: str = "A", *, identifier: int = 7, payload: int | None = None, flags: int = 0x0100
    ) -> bytes:
        header = struct.pack("!HHHHHH", identifier, flags, 1, 0, 0, payload is not None)
        option = b"" if payload is None else b"\x00" + struct.pack("!HHIH", 41, payload, 0, 0)
        return header + encoded(name) + struct.pack("!HH", TYPES[kind], 1) + option

    @staticmethod
    def reply(question: bytes, *addresses: str, identifier: int | None = None) -> bytes:
        """An upstream server's answer."""
        end = question.index(b"\x00", 12) + 5
        head = struct.pack(
            "!HHHHHH",
            int.from_bytes(question[:2]) if identifier is None else identifier,
            0x8180,
            1,
            len(addresses),
            0,
            0,
        )
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + ip_address(ip).packed for ip in addresses)
        return head + question[12:end] + records

    @staticmethod
    def read(packet: bytes) -> Reply:
        identifier, flags, questions, answers, authority, additional = struct.unpack_from("!HHHHHH", packet)
        position, question = 12, None
        if questions:
            name, position = decoded(packet, position)
            question = (name, KINDS[int.from_bytes(packet[position : position + 2])])
            position += 4
        records = []
        for _ in range(answers + authority + additional):
            name, position = decoded(packet, position)
            kind, _, _, length = struct.unpack_from("!HHIH", packet, position)
            data = packet[position + 10 : position + 10 + length]
            text = decoded(packet, position + 10)[0] if kind == TYPES["CNAME"] else str(ip_address(data))
            records.append(f"{name} {KINDS[kind]} {text}")
            position += 10 + length
        assert position == len(packet), "nothing is left over"
        assert flags & 0x8000, "it is an answer"
        return Reply(identifier, CODES[flags & 0xF], flags, question, records)


def encoded(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\x00"


def decoded(packet: bytes, position: int) -> tuple[str, int]:
    labels, after = [], None
    while packet[position]:
        if packet[position] >= 0xC0:
            after = position + 2 if after is None else after
            position = int.from_bytes(packet[position : position + 2]) & 0x3FFF
            continue
        labels.append(packet[position + 1 : position + 1 + packet[position]].decode())
        position += 1 + packet[position]
    return ".".join(labels), position + 1 if after is None else after


@pytest.fixture(scope="session")
def dns() -> type[Messages]:
    return Messages


def service(name: str, namespace: str, *ips: str) -> NameRecord:
    return NameRecord(
        host=f"{name}.{namespace}.svc.cluster.local",
        ips=ips,
        registry="Kubernetes",
        short_name=name,
        namespace=namespace,
    )


def external(host: str, *ips: str) -> NameRecord:
    return NameRecord(host=host, ips=ips, registry="External", short_name=host, namespace="shop")


@pytest.fixture(scope="session")
def table() -> NameTable:
    """What a Pod in namespace `shop` knows."""
    records = [
        service("cart", "shop", "10.97.0.1"),
        service("both", "shop", "10.97.0.2", "fd00::2"),
        service("six", "shop", "fd00::6"),
        service("cart", "other", "10.97.0.9"),
        service("headless", "shop", "10.10.0.1", "10.10.0.2", "10.10.0.3"),
        service("db-0.headless", "shop", "10.10.0.1"),
        service("empty", "shop"),
        service("huge", "shop", *(f"10.11.{i // 256}.{i % 256}" for i in range(300))),
        external("api.example.com", "240.240.0.1"),
        external("*.wild.example.com", "240.240.0.2"),
        external("exact.wild.example.com", "240.240.0.3"),
    ]
    search = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    return NameTable.prepare(records, namespace="shop", dns_domain="cluster.local", search_domains=search)
