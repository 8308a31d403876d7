"""Route tables of a sidecar: which services' virtual hosts each has, under which domains, before any of them is encoded.

What a table holds depends on which services there are; what a virtual host says depends on their rules. Kept apart, a rule that changes costs
its virtual host. A table is cut into sections, one for each namespace that has services in it. Callers of two namespaces have the same sections, but
for those whose services they call by names that say no namespace: nearly always their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.envoy import routes
from isthmus.envoy.outbound import Plan
from isthmus.envoy.resources import Piece, Resource
from isthmus.envoy.routes import Named
from isthmus.model.names import Namespace
from isthmus.model.services import Protocol
from isthmus.model.sidecars import Elsewhere
from isthmus.model.values import dataclass
from isthmus.model.views import ExtraHost, Scope


@dataclass(frozen=True, slots=True)
class Remainder:
    """What becomes of requests on a port that mean no service there. Port 0 is a socket."""

    port: int
    elsewhere: Elsewhere

    def encoded(self, extra: Sequence[ExtraHost]) -> Iterator[Piece]:
        return routes.rest_of_port(self.port, extra, self.elsewhere)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """`sections` by namespace of the services. A table of one service alone has no remainder: every request means it."""

    name: str
    sections: tuple[tuple[Named, ...], ...]
    remainder: Remainder | None = None


def tables_of(planned: Plan, scope: Scope, dns_domain: str, elsewhere: Elsewhere) -> Iterator[RouteTable]:
    """One for each port whose requests are told apart by host, and one for each service of undeclared protocol at an address of its own."""
    for on_port in planned.on_ports:
        if on_port.by_host:
            found: dict[Namespace, list[Named]] = {}
            for each in routes.named(on_port.by_host, scope, dns_domain):
                found.setdefault(each.upstream.service.namespace, []).append(each)
            sections = tuple(tuple(section) for _, section in sorted(found.items()))
            yield RouteTable(on_port.table, sections, Remainder(on_port.number, on_port.elsewhere(elsewhere)))
    detected = {
        addressed.upstream.name: addressed.upstream
        for addressed in planned.addressed
        if addressed.upstream.port.protocol is Protocol.AUTO
    }
    for upstream in detected.values():
        yield RouteTable(routes.host_and_port(upstream), ((Named(upstream, ("*",)),),))


def encoded(table: RouteTable, namespace: Namespace, extra: Sequence[ExtraHost]) -> Resource:
    """The whole table, for callers in the namespace."""
    sections = [
        Piece.together(routes.virtual_host_of(each.upstream, each.domains_from(namespace)) for each in section)
        for section in table.sections
    ]
    return routes.configuration(table.name, [*sections, *(table.remainder.encoded(extra) if table.remainder else ())])
