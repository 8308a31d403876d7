"""A request's way through one proxy, explained: each part of the configuration that it meets, with the object that caused it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.assurance.explaining.derivations import service_of
from isthmus.assurance.explaining.upstreams import explained_share
from isthmus.assurance.traffic.walk import Walk
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import Upstream, View

Object = dict[str, Any]


def explained_way(found: Walk, view: View, snapshot: Snapshot, port: int) -> Object:
    """The walk's names, the objects behind them, and the upstreams at its end. `port` is where the connection was sent."""
    by_name = {upstream.name: upstream for upstream in view.outbound.upstreams}
    by_name |= {upstream.sni: upstream for _, upstream in view.outbound.exposed}
    answer: Object = {"outcome": found.outcome.value, "says": found.says}
    if found.status:
        answer["status"] = found.status
    return (
        answer
        | dict(_parts(found, view, by_name, port))
        | {
            "policies": [
                {"filter": each.filter, "verdict": each.verdict.value, "says": each.says}
                | ({"rule": each.rule} if each.rule else {})
                | ({"origin": each.policy} if each.policy else {})
                for each in found.judged
            ],
            "upstreams": [
                explained_share(share, by_name.get(share.upstream), view.outbound.scope, snapshot)
                for share in found.shares
            ],
        }
    )


def _parts(found: Walk, view: View, by_name: dict[str, Upstream], port: int) -> Iterator[tuple[str, Object]]:
    if found.listener:
        yield "listener", _with_origin({"name": found.listener}, _origin_of_listener(found.listener, by_name))
        chain = {"name": found.chain, "match": found.chain_match or "none"}
        yield "filterChain", _with_origin(chain, _tls_origin(found, view, port))
    if found.table:
        yield "routeTable", {"name": found.table}
    if found.virtual_host:
        host = {"name": found.virtual_host, "domain": found.domain}
        yield "virtualHost", _with_origin(host, _origin_of_host(found.virtual_host, by_name))
    if found.route or found.route_match:
        route: Object = {"name": found.route, "match": found.route_match}
        route |= {"faults": list(found.faults)} if found.faults else {}
        yield "route", _with_origin(route, found.route_rule)


def _with_origin(part: Object, origin: str) -> Object:
    return part | ({"origin": origin} if origin else {})


def _origin_of_listener(name: str, by_name: dict[str, Upstream]) -> str:
    """A listener at a service's own address is the service's."""
    address, _, port = name.rpartition("_")
    for upstream in by_name.values():
        if address in upstream.virtual_ips and port == str(upstream.port.number):
            return service_of(upstream)
    return ""


def _origin_of_host(name: str, by_name: dict[str, Upstream]) -> str:
    for upstream in by_name.values():
        if name == f"{upstream.service.hostname}:{upstream.port.number}":
            return service_of(upstream)
    return ""


def _tls_origin(found: Walk, view: View, port: int) -> str:
    """The PeerAuthentication that decides which chains an inbound port has."""
    if found.listener != "virtualInbound":
        return ""
    rules = [each.tls_origin for each in view.inbound.ports if each.target_port == port] or [view.inbound.tls_origin]
    return str(rules[0]) if rules[0] else ""
