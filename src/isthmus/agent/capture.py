"""Capture: the rules in a Pod's network namespace that lead its connections into its proxy, all but the proxy's own.

Which are its own is told by a mark on the socket where the proxy may set one (the local runtime), and by the user that it runs as where it may
not (a Pod of a real cluster). Connections of the proxy to its own workload come from an address that is left alone in either case.
"""

from __future__ import annotations

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
_LOOPBACK_SOURCE = "127.0.0.6"
"""Source of the proxy's connections to its own workload."""

_SECONDS = 10.0
_TABLE = "ip isthmus_capture"


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


def rules(own: ByMark | ByUser, wanted: Capture, *, dns: bool, name_servers: Sequence[str] = ()) -> str:
    """For `nft -f`. They take the place of those that are there, if any. The order matters: own connections first, then DNS, then
    loopback, then what is left out, then the rest. With `name_servers`, questions to others go where they are sent: a machine's own
    resolver, which applications ask, must be able to ask its.
    """
    output = [
        f"ip saddr {_LOOPBACK_SOURCE} return",
        # A workload that calls itself by its Pod's address is called like by anyone else.
        f'{own} oifname "lo" ip daddr != 127.0.0.0/8 tcp dport != {{ {_OWN_PORTS} }} redirect to :{_INBOUND}',
        f"{own} return",
        *_captured_dns(name_servers if dns else None),
        'oifname "lo" ip daddr 127.0.0.0/8 return',
        # Of other proxies: this one's Envoy, which listens there itself, would take the connection for its own (measured).
        f"tcp dport {{ {_PROXIES_PORTS} }} return",
        *_outbound(wanted),
    ]
    prerouting = [f"tcp dport {{ {_NOT_CAPTURED_INBOUND} }} return", *_inbound(wanted)]
    return "\n".join(
        [
            f"add table {_TABLE}",
            f"delete table {_TABLE}",
            f"table {_TABLE} {{",
            *_chain("output", output),
            *_chain("prerouting", prerouting),
            "}\n",
        ]
    )


def install(text: str) -> None:
    """Into the network namespace of this process. Raises CaptureFailed."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CaptureFailed(f"nft cannot be run: {error}") from None
    if done.returncode:
        raise CaptureFailed(f"nft refuses the rules: {done.stderr.strip()}")


def _chain(name: str, lines: list[str]) -> list[str]:
    head = f" chain {name} {{ type nat hook {name} priority -100; policy accept;"
    return [head, *(f"  {line}" for line in lines), " }"]


def _captured_dns(name_servers: Sequence[str] | None) -> list[str]:
    if name_servers is None:
        return []
    if name_servers:
        those = f"ip daddr {{ {', '.join(_ipv4(name_servers))} }}"
        return [f"udp dport 53 {those} redirect to :{_DNS}", f"tcp dport 53 {those} redirect to :{_DNS}"]
    return [
        f"udp dport 53 redirect to :{_DNS}",
        f"tcp dport 53 ip daddr != 127.0.0.0/8 redirect to :{_DNS}",
    ]


def remove() -> None:
    """Takes the rules away. Raises CaptureFailed."""
    install(f"add table {_TABLE}\ndelete table {_TABLE}\n")


def _outbound(wanted: Capture) -> list[str]:
    lines = _returns("tcp dport", wanted.excluded_outbound_ports) + _returns(
        "ip daddr", wanted.excluded_outbound_ranges
    )
    if wanted.outbound_ports:
        # Ports are captured whatever the ranges are, as in Istio.
        lines += [f"{_those('tcp dport', wanted.outbound_ports)} redirect to :{_OUTBOUND}"]
    if wanted.outbound_ranges:
        lines += [f"{_those('ip daddr', wanted.outbound_ranges)} redirect to :{_OUTBOUND}"]
    return lines


def _inbound(wanted: Capture) -> list[str]:
    if not wanted.inbound_ports:
        return []
    captured = [f"{_those('tcp dport', wanted.inbound_ports)} redirect to :{_INBOUND}"]
    return _returns("tcp dport", wanted.excluded_inbound_ports) + captured


def _returns(what: str, values: str) -> list[str]:
    return [f"{_those(what, values)} return"] if values else []


def _those(what: str, values: str) -> str:
    """Only IPv4 is captured: a range of the other family matches nothing here."""
    if values == "*":
        return "meta l4proto tcp"
    listed = ", ".join(_ipv4(values.split(",")))
    return f"{what} {{ {listed} }}" + (" meta l4proto tcp" if what == "ip daddr" else "")


def _ipv4(values: Sequence[str]) -> list[str]:
    """A set must not be empty; nothing is addressed to the unspecified address."""
    return [value for value in values if ":" not in value] or ["0.0.0.0"]
