"""Routes of the Gateway API: what they are attached to, the backends that they lead to, and VirtualServices that have rules for the same host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from isthmus.assurance.analysis.hosts import full_host
from isthmus.assurance.analysis.items import Index, Item, Object, ports_of
from isthmus.assurance.analysis.virtual_services import MESH, is_in_mesh
from isthmus.assurance.catalogue import routing as codes
from isthmus.model.issues import Issue

_GROUP = "gateway.networking.k8s.io"
_KINDS = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute")


def references(index: Index) -> Iterator[Issue]:
    for kind in _KINDS:
        for route in index.each(kind):
            for number, parent in enumerate(route.spec.get("parentRefs") or []):
                yield from _parent(index, route, parent, f"spec.parentRefs[{number}]")
            for number, rule in enumerate(route.spec.get("rules") or []):
                for place, backend in enumerate(rule.get("backendRefs") or []):
                    yield from _backend(index, route, backend, f"spec.rules[{number}].backendRefs[{place}]")


def against_virtual_services(index: Index) -> Iterator[Issue]:
    """Of a route bound to a Service of its own namespace, which is for all callers, and a VirtualService for that host one alone holds."""
    rules: dict[str, list[Item]] = defaultdict(list)
    for rule in index.each("VirtualService"):
        if is_in_mesh(rule):
            for host in rule.spec.get("hosts") or []:
                rules[full_host(host, rule.namespace)].append(rule)
    for kind in _KINDS:
        for route in index.each(kind):
            for host in sorted(set(_services_bound(index, route))):
                for rule in rules.get(host, ()):
                    if _age(route, f"{MESH}~{host}") < _age(rule, rule.name):
                        what = f"{kind} {route.full_name} is older, and has rules for {host}, too: these do nothing"
                        yield rule.finding(codes.RULES_AND_ROUTE, what, path="spec.hosts")
                    else:
                        what = f"VirtualService {rule.full_name} is older, and has rules for {host}, too"
                        alone = f"{what}: the route holds for callers in {route.namespace} alone"
                        yield route.finding(codes.RULES_AND_ROUTE, alone, path="spec.parentRefs")


def _services_bound(index: Index, route: Item) -> Iterator[str]:
    """The hosts of the parents that are services of the route's own namespace."""
    for parent in route.spec.get("parentRefs") or []:
        where, name = parent.get("namespace") or route.namespace, parent.get("name") or ""
        if where != route.namespace:
            continue
        match parent.get("group", _GROUP), parent.get("kind"):
            case "" | "core", "Service":
                yield full_host(name, where)
            case "networking.istio.io", "ServiceEntry":
                entry = index.get("ServiceEntry", where, name)
                yield from (entry.spec.get("hosts") or []) if entry else []


def _age(item: Item, name: str) -> tuple[str, str, str]:
    """As the mesh orders rules: by time, then by name, which of what routes say is their host's."""
    return str(item.metadata.get("creationTimestamp") or ""), name, item.namespace


def _parent(index: Index, route: Item, parent: Object, path: str) -> Iterator[Issue]:
    kind = parent.get("kind", "Gateway")
    if parent.get("group", _GROUP) != _GROUP or kind not in ("Gateway", "ListenerSet"):
        return
    where, name = parent.get("namespace") or route.namespace, parent.get("name") or ""
    gateway = index.get(kind, where, name, _GROUP)
    if gateway is None:
        yield route.finding(codes.NOT_FOUND, f"there is no {kind} {where}/{name} of the Gateway API", path=path)
        return
    listeners = [listener.get("name") for listener in gateway.spec.get("listeners") or []]
    section = parent.get("sectionName")
    if section and section not in listeners:
        what = f"{kind} {where}/{name} has no listener {section}; there is: {', '.join(map(str, listeners))}"
        yield route.finding(codes.NOT_FOUND, what, path=f"{path}.sectionName")


def _backend(index: Index, route: Item, backend: Object, path: str) -> Iterator[Issue]:
    if (backend.get("group") or "", backend.get("kind") or "Service") != ("", "Service"):
        return
    where, name = backend.get("namespace") or route.namespace, backend.get("name") or ""
    services = index.services_named.get((where, name), ())
    if not services:
        yield route.finding(codes.NOT_FOUND, f"there is no Service {where}/{name}", path=path)
        return
    ports = sorted({port.get("port") or 0 for service in services for port in ports_of(service)})
    if backend.get("port") and backend["port"] not in ports:
        what = f"Service {where}/{name} has no port {backend['port']}; it has {', '.join(map(str, ports))}"
        yield route.finding(codes.NOT_FOUND, what, path=f"{path}.port")
