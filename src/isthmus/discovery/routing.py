"""Which routes requests for a service port take from a namespace: the VirtualService that holds, resolved to upstreams."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.discovery.visibility import is_exported
from isthmus.model.names import Hostname, Namespace, ServiceKey, covers
from isthmus.model.routing import HttpRule, RequestMatch, Route, Target, VirtualService
from isthmus.model.services import Service, ServicePort
from isthmus.model.snapshot import Snapshot


def routes_for(namespace: Namespace, service: Service, port: ServicePort, snapshot: Snapshot) -> tuple[Route, ...]:
    """In the order in which they are tried; empty where no VirtualService holds."""
    found = _holding(namespace, service, snapshot)
    if found is None:
        return ()
    return tuple(_up_to_catch_all(_routes(found, namespace, port, snapshot)))


def _holding(namespace: Namespace, service: Service, snapshot: Snapshot) -> VirtualService | None:
    """The one whose host is most specific; of several, the oldest."""
    best: tuple[tuple[bool, int], VirtualService] | None = None
    for candidate in snapshot.virtual_services:
        if not is_exported(candidate.export_to, candidate.namespace, namespace):
            continue
        for host in candidate.hosts:
            rank = (host == service.hostname, len(host))
            if covers(host, service.hostname) and (best is None or rank > best[0]):
                best = (rank, candidate)
    return best[1] if best else None


def _routes(found: VirtualService, namespace: Namespace, port: ServicePort, snapshot: Snapshot) -> Iterator[Route]:
    for index, rule in enumerate(found.rules):
        matches = rule.matches or (RequestMatch(),)
        for number, match in enumerate(matches):
            if match.port not in (0, port.number) or match.source_namespace not in ("", namespace):
                continue
            name = rule.name or (f"{found.name}.{index}" if rule.matches else "default")
            yield _resolved(rule, match, name if len(matches) == 1 else f"{name}.{number}", port, snapshot)


def _resolved(rule: HttpRule, match: RequestMatch, name: str, port: ServicePort, snapshot: Snapshot) -> Route:
    return Route(
        name=name,
        match=match,
        clusters=tuple(
            (_upstream(target, port, snapshot), weight, headers) for target, weight, headers in rule.targets
        ),
        mirrors=tuple((_upstream(target, port, snapshot), percent) for target, percent in rule.mirrors),
        handling=rule.handling,
    )


def _upstream(target: Target, port: ServicePort, snapshot: Snapshot) -> str:
    """Without a port, the service's only one, else the one that was called. A host that nobody declares keeps its name: 503."""
    number = target.port
    if not number:
        service = _service(target.host, snapshot)
        number = service.ports[0].number if service and len(service.ports) == 1 else port.number
    return f"outbound|{number}|{target.subset}|{target.host}"


def _service(host: Hostname, snapshot: Snapshot) -> Service | None:
    parts = host.split(".", 2)
    if len(parts) > 1:
        found = snapshot.services.get(ServiceKey(Namespace(parts[1]), host))
        if found is not None:
            return found
    return next((service for service in snapshot.services.values() if service.hostname == host), None)


def _up_to_catch_all(routes: Iterator[Route]) -> Iterator[Route]:
    """What stands behind a route that takes everything is never asked."""
    for route in routes:
        yield route
        if route.match == RequestMatch(port=route.match.port, source_namespace=route.match.source_namespace):
            return
