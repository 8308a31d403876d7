"""Capture: the rules in a Pod's network namespace that lead its connections into its proxy, all but the proxy's own.

Which are its own is told by a mark on the socket where the proxy may set one (the local runtime), and by the user that it runs as where it may
not (a Pod of a real cluster). Connections of the proxy to its own workload come from an address that is left alone in either case.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.agent.namespaces import SIDECAR_MARK
from isthmus.injection.settings import Capture

EVERYTHING = Capture()
_OUTBOUND, _INBOUND, _DNS = 15001, 15006, 15053
_OWN_PORTS = "15000, 15020, 15021, 15090"
_PROXIES_PORTS = "15020, 15021, 15090"
"""Agent, readiness and statistics: asked in plaintext by whoever looks after Pods."""

_NOT_CAPTURED_INBOUND = "15008, 15020, 15021, 15090"
_SECONDS = 10.0
_SIOCSIFADDR = 0x8916


class CaptureFailed(Exception):
    """The kernel did not take the rules: what it said."""


@dataclass(frozen=True, slots=True)
class ByMark:
    """The proxy's sockets have this mark."""

    mark: int = SIDECAR_MARK

    def __str__(self) -> str:
        return f"meta mark {self.mark}"


@dataclass(frozen=True, slots=True)
class ByUser:
    """The proxy runs as this user, and nothing else does."""

    user: int

    def __str__(self) -> str:
        return f"meta skuid {self.user}"


@dataclass(frozen=True, slots=True)
class _Family:
    """How nft speaks of one kind of addresses: `word` in tables and matches, what is on this machine, the source of the proxy's connections
    to its own workload, and an address to which nothing is sent (a set must not be empty)."""

    word: str
    loopback: str
    own_source: str
    nowhere: str

    @property
    def table(self) -> str:
        return f"{self.word} isthmus_capture"

    def among(self, values: Sequence[str]) -> str:
        is_ipv6 = self.word == "ip6"
        return ", ".join([value for value in values if (":" in value) == is_ipv6] or [self.nowhere])


_FAMILIES = {4: _Family("ip", "127.0.0.0/8", "127.0.0.6", "0.0.0.0"), 6: _Family("ip6", "::1", "::6", "::")}


def rules(
    own: ByMark | ByUser,
    wanted: Capture,
    *,
    dns: bool,
    name_servers: Sequence[str] = (),
    families: Sequence[int] = (4,),
) -> str:
    """For `nft -f`. They take the place of those that are there, if any. The order matters: own connections first, then DNS, then
    loopback, then what is left out, then the rest. With `name_servers`, questions to others go where they are sent: a machine's own
    resolver, which applications ask, must be able to ask its.
    """
    servers = name_servers if dns else None
    return "".join(_table(_FAMILIES[family], own, wanted, servers) for family in families)


def _table(family: _Family, own: ByMark | ByUser, wanted: Capture, name_servers: Sequence[str] | None) -> str:
    here = family.loopback
    output = [
        f"{family.word} saddr {family.own_source} return",
        # A workload that calls itself by its Pod's address is called like by anyone else.
        f'{own} oifname "lo" {family.word} daddr != {here} tcp dport != {{ {_OWN_PORTS} }} redirect to :{_INBOUND}',
        f"{own} return",
        *_captured_dns(family, name_servers),
        f'oifname "lo" {family.word} daddr {here} return',
        # Of other proxies: this one's Envoy, which listens there itself, would take the connection for its own (measured).
        f"tcp dport {{ {_PROXIES_PORTS} }} return",
        *_outbound(family, wanted),
    ]
    prerouting = [f"tcp dport {{ {_NOT_CAPTURED_INBOUND} }} return", *_inbound(family, wanted)]
    return "\n".join(
        [
            f"add table {family.table}",
            f"delete table {family.table}",
            f"table {family.table} {{",
            *_chain("output", output),
            *_chain("prerouting", prerouting),
            "}\n",
        ]
    )


def install(text: str, families: Sequence[int] = (4,)) -> None:
    """Into the network namespace of this process. Raises CaptureFailed."""
    if 6 in families:
        _own(_FAMILIES[6].own_source)
    try:
        done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CaptureFailed(f"nft cannot be run: {error}") from None
    if done.returncode:
        raise CaptureFailed(f"nft refuses the rules: {done.stderr.strip()}")


def _own(address: str) -> None:
    """Makes an IPv6 address this machine's. All of 127.0.0.0/8 is, but of IPv6 only ::1."""
    wanted = struct.pack("16sIi", socket.inet_pton(socket.AF_INET6, address), 128, socket.if_nametoindex("lo"))
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asked:
            fcntl.ioctl(asked, _SIOCSIFADDR, wanted)
    except FileExistsError:
        return
    except OSError as error:
        raise CaptureFailed(f"{address} cannot be made an address of the loopback: {error}") from None


def _chain(name: str, lines: list[str]) -> list[str]:
    head = f" chain {name} {{ type nat hook {name} priority -100; policy accept;"
    return [head, *(f"  {line}" for line in lines), " }"]


def _captured_dns(family: _Family, name_servers: Sequence[str] | None) -> list[str]:
    if name_servers is None:
        return []
    if name_servers:
        those = f"{family.word} daddr {{ {family.among(name_servers)} }}"
        return [f"udp dport 53 {those} redirect to :{_DNS}", f"tcp dport 53 {those} redirect to :{_DNS}"]
    return [
        f"udp dport 53 redirect to :{_DNS}",
        f"tcp dport 53 {family.word} daddr != {family.loopback} redirect to :{_DNS}",
    ]


def remove(families: Sequence[int] = (4,)) -> None:
    """Takes the rules away. Raises CaptureFailed."""
    tables = [_FAMILIES[family].table for family in families]
    install("".join(f"add table {table}\ndelete table {table}\n" for table in tables))


def _outbound(family: _Family, wanted: Capture) -> list[str]:
    lines = _returns(family, "tcp dport", wanted.excluded_outbound_ports)
    lines += _returns(family, "daddr", wanted.excluded_outbound_ranges)
    if wanted.outbound_ports:
        # Ports are captured whatever the ranges are, as in Istio.
        lines += [f"{_those(family, 'tcp dport', wanted.outbound_ports)} redirect to :{_OUTBOUND}"]
    if wanted.outbound_ranges:
        lines += [f"{_those(family, 'daddr', wanted.outbound_ranges)} redirect to :{_OUTBOUND}"]
    return lines


def _inbound(family: _Family, wanted: Capture) -> list[str]:
    if not wanted.inbound_ports:
        return []
    captured = [f"{_those(family, 'tcp dport', wanted.inbound_ports)} redirect to :{_INBOUND}"]
    return _returns(family, "tcp dport", wanted.excluded_inbound_ports) + captured


def _returns(family: _Family, what: str, values: str) -> list[str]:
    return [f"{_those(family, what, values)} return"] if values else []


def _those(family: _Family, what: str, values: str) -> str:
    """Ports, or ranges of addresses, of which those of the other family match nothing here."""
    if values == "*":
        return "meta l4proto tcp"
    if what == "daddr":
        return f"{family.word} daddr {{ {family.among(values.split(','))} }} meta l4proto tcp"
    return f"{what} {{ {', '.join(values.split(','))} }}"
