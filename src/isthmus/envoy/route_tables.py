"""Route tables of a sidecar: which services' virtual hosts each has, under which domains, before any of them is encoded.

What a table holds depends on which services there are; what a virtual host says depends on their rules. Kept apart, a rule that changes costs
its virtual host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isthmus.envoy import routes
from isthmus.envoy.outbound import Plan
from isthmus.envoy.resources import Piece, Resource
from isthmus.model.services import Protocol
from isthmus.model.sidecars import Elsewhere
from isthmus.model.views import ExtraHost, Scope, Upstream


@dataclass(frozen=True, slots=True)
class RouteTable:
    """`hosts` are upstreams with the domains that mean them, in order; `rest` are encoded virtual hosts that come after."""

    name: str
    hosts: tuple[tuple[Upstream, tuple[str, ...]], ...]
    rest: tuple[Piece, ...] = ()


def tables_of(
    planned: Plan, extra: Sequence[ExtraHost], scope: Scope, dns_domain: str, elsewhere: Elsewhere
) -> Iterator[RouteTable]:
    """One for each port whose requests are told apart by host, and one for each service of undeclared protocol at an address of its own."""
    for on_port in planned.on_ports:
        if on_port.by_host:
            hosts = routes.domains_by_upstream(on_port.by_host, scope, dns_domain)
            rest = routes.rest_of_port(on_port.number, extra, on_port.elsewhere(elsewhere))
            yield RouteTable(on_port.table, tuple(hosts), tuple(rest))
    detected = {
        addressed.upstream.name: addressed.upstream
        for addressed in planned.addressed
        if addressed.upstream.port.protocol is Protocol.AUTO
    }
    for upstream in detected.values():
        yield RouteTable(routes.host_and_port(upstream), ((upstream, ("*",)),))


def encoded(table: RouteTable) -> Resource:
    """The whole table."""
    hosts = [routes.virtual_host_of(upstream, domains) for upstream, domains in table.hosts]
    return routes.configuration(table.name, [*hosts, *table.rest])
