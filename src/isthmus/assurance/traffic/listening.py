"""Which listener takes a connection, and which of its filter chains serves it.

Envoy (1.40) looks at one property after the other and keeps the chains with the most specific value for it. It never goes back: a chain for
this very port that wants TLS loses a plaintext connection to the default chain, not to a chain for any port.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.texts import is_within
from isthmus.envoy.inbound import INBOUND_PORT
from isthmus.model.values import dataclass

Object = Mapping[str, Any]

_TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
_HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
_ANY_ADDRESS = ("0.0.0.0", "::")
_PLAIN_HTTP = "http/1.1"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the listener filters found out about a connection."""

    transport: str
    sni: str
    protocols: tuple[str, ...]


def place_of(listener: Object) -> tuple[str, int]:
    """Address and port that a listener is bound to, or stands for."""
    found = listener.get("address", {}).get("socketAddress", {})
    return str(found.get("address", "")), int(found.get("portValue", 0))


def outbound_listener(listeners: Sequence[Object], address: str, port: int) -> Object | None:
    """Of a sidecar: the one for this very destination, then for its port, then the one that captures everything."""
    by_place = {place_of(each): each for each in listeners if each.get("trafficDirection") == "OUTBOUND"}
    found = by_place.get((address, port))
    for anywhere in _ANY_ADDRESS:
        found = found or by_place.get((anywhere, port))
    return found or next((each for each in listeners if each.get("useOriginalDst")), None)


def inbound_listener(listeners: Sequence[Object]) -> Object | None:
    """The one that captures what comes in. Those that a Sidecar has the proxy open itself are met behind it."""
    inbound = [each for each in listeners if each.get("trafficDirection") == "INBOUND"]
    return next((each for each in inbound if place_of(each)[1] == INBOUND_PORT), next(iter(inbound), None))


def bound_listener(listeners: Sequence[Object], port: int) -> Object | None:
    """Of a gateway: the one that is bound to the port."""
    return next((each for each in listeners if place_of(each)[1] == port), None)


def seen_by(listener: Object, request: Request) -> Seen:
    """What is not inspected is plaintext of no known protocol, whatever it is."""
    filters = {each.get("name"): each for each in listener.get("listenerFilters", ())}
    if request.tls is not Tls.NONE and _TLS_INSPECTOR in filters:
        return Seen("tls", request.sni.lower(), request.alpn)
    inspector = filters.get(_HTTP_INSPECTOR)
    looks = inspector is not None and not _is_off(inspector.get("filterDisabled"), request.port)
    is_plain_http = looks and request.is_http and request.tls is Tls.NONE
    return Seen("raw_buffer", "", (_PLAIN_HTTP,) if is_plain_http else ())


def chain_for(listener: Object, seen: Seen, request: Request) -> Object | None:
    """None means that the connection is closed."""
    chains: list[Object] = list(listener.get("filterChains", ()))
    for narrowed in _NARROWING:
        chains = narrowed(chains, seen, request)
        if not chains:
            return listener.get("defaultFilterChain")
    return chains[0]


def described(chain: Object) -> str:
    """What a chain's match asks for, in a few words."""
    match = chain.get("filterChainMatch", {})
    said = []
    if "destinationPort" in match:
        said.append(f"port {match['destinationPort']}")
    said += [f"to {each.get('addressPrefix')}/{each.get('prefixLen', 0)}" for each in match.get("prefixRanges", ())]
    if match.get("serverNames"):
        said.append("SNI " + " or ".join(match["serverNames"]))
    if match.get("transportProtocol"):
        said.append("TLS" if match["transportProtocol"] == "tls" else "plaintext")
    if match.get("applicationProtocols"):
        said.append("protocol " + " or ".join(match["applicationProtocols"]))
    return ", ".join(said) or "anything else"


def _is_off(predicate: Object | None, port: int) -> bool:
    if predicate is None:
        return False
    if "orMatch" in predicate:
        return any(_is_off(rule, port) for rule in predicate["orMatch"].get("rules", ()))
    if "andMatch" in predicate:
        return all(_is_off(rule, port) for rule in predicate["andMatch"].get("rules", ()))
    if "notMatch" in predicate:
        return not _is_off(predicate["notMatch"], port)
    if "destinationPortRange" in predicate:
        limits = predicate["destinationPortRange"]
        return int(limits.get("start", 0)) <= port < int(limits.get("end", 0))
    return bool(predicate.get("anyMatch", False))


def _best(chains: Iterable[Object], rank: Callable[[Object], int | None]) -> list[Object]:
    """Those of the highest rank; None is no match."""
    ranked = [(found, chain) for chain in chains if (found := rank(chain.get("filterChainMatch", {}))) is not None]
    best = max((found for found, _ in ranked), default=0)
    return [chain for found, chain in ranked if found == best]


def _by_port(chains: Sequence[Object], seen: Seen, request: Request) -> list[Object]:
    def rank(match: Object) -> int | None:
        if "destinationPort" not in match:
            return 0
        return 1 if int(match["destinationPort"]) == request.port else None

    return _best(chains, rank)


def _by_destination(chains: Sequence[Object], seen: Seen, request: Request) -> list[Object]:
    return _best(chains, lambda match: _range_rank(match.get("prefixRanges", ()), request.address))


def _by_server_name(chains: Sequence[Object], seen: Seen, request: Request) -> list[Object]:
    def rank(match: Object) -> int | None:
        names = match.get("serverNames", ())
        if not names:
            return 0
        return max((found for name in names if (found := _name_rank(name.lower(), seen.sni)) is not None), default=None)

    return _best(chains, rank)


def _by_transport(chains: Sequence[Object], seen: Seen, request: Request) -> list[Object]:
    def rank(match: Object) -> int | None:
        said = match.get("transportProtocol", "")
        return 0 if not said else 1 if said == seen.transport else None

    return _best(chains, rank)


def _by_protocol(chains: Sequence[Object], seen: Seen, request: Request) -> list[Object]:
    """The first of the protocols that the client offers and that some chain asks for."""

    def rank(match: Object) -> int | None:
        said = match.get("applicationProtocols", ())
        if not said:
            return 0
        places = [len(seen.protocols) - index for index, offered in enumerate(seen.protocols) if offered in said]
        return max(places, default=None)

    return _best(chains, rank)


def _by_source(chains: Sequence[Object], seen: Seen, request: Request) -> list[Object]:
    found = _best(chains, lambda match: _range_rank(match.get("directSourcePrefixRanges", ()), request.source))
    found = _best(found, lambda match: _source_type_rank(match.get("sourceType", "ANY"), request))
    return _best(found, lambda match: _range_rank(match.get("sourcePrefixRanges", ()), request.source))


_NARROWING = (_by_port, _by_destination, _by_server_name, _by_transport, _by_protocol, _by_source)


def _range_rank(ranges: Sequence[Object], address: str) -> int | None:
    if not ranges:
        return 0
    return max((1 + int(each.get("prefixLen", 0)) for each in ranges if is_within(each, address)), default=None)


def _name_rank(name: str, sni: str) -> int | None:
    """An exact name is the most specific, then the longest end of one."""
    if name == sni:
        return 1_000_000
    if name.startswith("*.") and sni.endswith(name[1:]):
        return len(name)
    return None


def _source_type_rank(kind: str, request: Request) -> int | None:
    if kind == "ANY":
        return 0
    is_local = request.source in ("", request.address) or _is_loopback(request.source)
    return 1 if is_local == (kind == "SAME_IP_OR_LOOPBACK") else None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
