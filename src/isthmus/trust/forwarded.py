"""Identities that a proxy forwards in `x-forwarded-client-cert`, and from whom that header is believed.

The header proves nothing by itself: anybody can write it. It counts only when the connection comes from a trusted peer, which is one that
has verified the client's certificate and replaces or extends what clients send. Form: Envoy's documentation of HTTP headers, XFCC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from isthmus.trust.x509 import common_names

_HEADER_BYTES_MAX = 64 * 1024
# One value: in double quotes, or bare up to the next separator. A backslash is left where it is: in a subject it is RFC 4514's, too.
_PAIR = re.compile(r'\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\x00-\x1f]*))\s*([,;]|$)')


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """One hop's client: what its certificate says. The first element of a header is the client farthest away."""

    uris: tuple[str, ...]
    dns_names: tuple[str, ...]
    subject: str

    @property
    def identities(self) -> tuple[str, ...]:
        return (*self.uris, *self.dns_names, *common_names(self.subject))


def is_trusted_peer(peer: str, trusted_cidrs: str) -> bool:
    """Whether a header from this address counts: from the machine's own loopback, and from the comma-separated ranges.

    Raises ValueError for an address or a range that is none.
    """
    address = _address(peer)
    ranges = [ip_network(text.strip(), strict=False) for text in trusted_cidrs.split(",") if text.strip()]
    return address.is_loopback or any(address in network for network in ranges)


def forwarded_identities(header: str) -> list[str]:
    """Every identity in the header, in its order; for one client first the URIs, then DNS names, then the subject's common name."""
    return [identity for client in parse_forwarded(header) for identity in client.identities]


def parse_forwarded(header: str) -> list[ForwardedClient]:
    """Raises ValueError for a header that is not in XFCC's form; half of one is worth nothing."""
    if len(header) > _HEADER_BYTES_MAX:
        raise ValueError(f"x-forwarded-client-cert is larger than {_HEADER_BYTES_MAX} bytes")
    return [_client(pairs) for pairs in _elements(header)]


def _elements(header: str) -> Iterator[list[tuple[str, str]]]:
    pairs: list[tuple[str, str]] = []
    place, separator = 0, ";"
    while separator:
        match = _PAIR.match(header, place)
        if match is None:
            raise ValueError(f"x-forwarded-client-cert: no key=value at character {place}")
        key, quoted, bare, separator = match.groups()
        pairs.append((key.lower(), bare.strip() if quoted is None else quoted))
        place = match.end()
        if separator != ";":
            yield pairs
            pairs = []


def _client(pairs: list[tuple[str, str]]) -> ForwardedClient:
    def values(wanted: str) -> tuple[str, ...]:
        return tuple(value for key, value in pairs if key == wanted and value)

    return ForwardedClient(values("uri"), values("dns"), next(iter(values("subject")), ""))


def _address(peer: str) -> IPv4Address | IPv6Address:
    """An address with or without a port; an IPv4 address in IPv6's clothes is the IPv4 address."""
    host = peer[1:].partition("]")[0] if peer.startswith("[") else peer
    if host.count(":") == 1:
        host = host.partition(":")[0]
    address = ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address
