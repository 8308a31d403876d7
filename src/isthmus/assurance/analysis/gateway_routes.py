"""Routes of the Gateway API: the gateways that they are attached to, and the backends that they lead to."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.analysis.items import Index, Item, Object, ports_of
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
