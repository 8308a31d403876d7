"""Attaching: which listeners and services a route holds at, and why it does not hold at the others that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from isthmus.api import gateway_api as api
from isthmus.ingest.gateway_api.gateways import OpenGateway
from isthmus.ingest.gateway_api.listener_sets import OpenListenerSet
from isthmus.ingest.gateway_api.listeners import OpenListener
from isthmus.ingest.gateway_api.namespaces import may_attach
from isthmus.ingest.gateway_api.objects import Name, Objects
from isthmus.model.attachments import ACCEPTED, Condition, Parent
from isthmus.model.names import Hostname, covers
from isthmus.model.values import dataclass

_SERVICE_ENTRY = ("networking.istio.io", "ServiceEntry")


@dataclass(frozen=True, slots=True)
class Attached:
    """A listener, and the hosts that a route has there."""

    listener: OpenListener
    hosts: tuple[Hostname, ...]


@dataclass(frozen=True, slots=True)
class Frontend:
    """A service in the mesh whose calls a route decides. `namespace` is the service's; `port` 0 is every port."""

    namespace: str
    hosts: tuple[Hostname, ...]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What became of one of a route's parents."""

    parent: Parent
    accepted: Condition
    listeners: tuple[Attached, ...] = ()
    frontend: Frontend | None = None


@dataclass(frozen=True, slots=True)
class Gateways:
    """The Gateways and the ListenerSets of ours that routes may name."""

    gateways: Mapping[Name, OpenGateway]
    listener_sets: Mapping[Name, OpenListenerSet]

    @classmethod
    def of(cls, gateways: Sequence[OpenGateway]) -> Gateways:
        sets = {each.name: each for gateway in gateways for each in gateway.listener_sets}
        return cls({(each.gateway.metadata.namespace, each.gateway.metadata.name): each for each in gateways}, sets)


def attachments_of(route: api.Route, kind: str, ours: Gateways, objects: Objects) -> Iterator[Attachment]:
    """One for each parent that is ours. Those of other controllers are theirs to speak of."""
    for reference in route.spec.parent_refs:
        namespace = reference.namespace or route.metadata.namespace
        parent = Parent(
            group=reference.group,
            kind=reference.kind,
            namespace=reference.namespace,
            name=reference.name,
            section=reference.section_name,
            port=reference.port,
        )
        if kind == "UDPRoute":
            if reference.kind == "Service" or (namespace, reference.name) in ours.gateways:
                yield _refused(parent, "UnsupportedValue", "UDP is not routed")
        elif (reference.group, reference.kind) == (api.GROUP, "Gateway"):
            gateway = ours.gateways.get((namespace, reference.name))
            if gateway is not None:
                yield _to_listeners(route, kind, parent, gateway.listeners, objects)
        elif (reference.group, reference.kind) == (api.GROUP, "ListenerSet"):
            listener_set = ours.listener_sets.get((namespace, reference.name))
            if listener_set is not None and listener_set.listeners:
                yield _to_listeners(route, kind, parent, listener_set.listeners, objects)
            elif listener_set is not None:
                yield _refused(parent, "NoMatchingParent", "the ListenerSet is not taken by its Gateway")
        elif (reference.group, reference.kind) == ("", "Service"):
            yield _to_service(parent, namespace, objects)
        elif (reference.group, reference.kind) == _SERVICE_ENTRY:
            yield _to_service_entry(route, parent, namespace, objects)


def _to_listeners(
    route: api.Route, kind: str, parent: Parent, listeners: Sequence[OpenListener], objects: Objects
) -> Attachment:
    """Each filter narrows the listeners; the first that leaves none is the reason."""
    named = [
        each
        for each in listeners
        if parent.section in ("", each.listener.name) and parent.port in (0, each.listener.port)
    ]
    if not named:
        return _refused(parent, "NoMatchingParent", f"the {parent.kind} has no listener of this name and port")
    of_kind = [each for each in named if kind in each.kinds]
    if not of_kind:
        return _refused(parent, "NotAllowedByListeners", f"no listener takes a {kind}")
    shared = [(each, _shared(each, kind, route.spec.hostnames)) for each in of_kind]
    with_host = [(each, hosts) for each, hosts in shared if hosts]
    if not with_host:
        return _refused(parent, "NoMatchingListenerHostname", "no listener has one of the route's host names")
    allowed = [
        Attached(each, hosts)
        for each, hosts in with_host
        if may_attach(
            each.listener.allowed_routes.namespaces, each.owner.namespace, route.metadata.namespace, objects.namespaces
        )
    ]
    if not allowed:
        return _refused(parent, "NotAllowedByListeners", f"no listener takes routes of {route.metadata.namespace}")
    return Attachment(parent=parent, accepted=ACCEPTED, listeners=tuple(allowed))


def _refused(parent: Parent, reason: str, message: str) -> Attachment:
    return Attachment(parent=parent, accepted=Condition("Accepted", False, reason, message))


def _shared(listener: OpenListener, kind: str, hostnames: Sequence[str]) -> tuple[Hostname, ...]:
    """The hosts that a listener and a route have in common, each as narrow as the narrower says. Bytes have none to look at."""
    if kind == "TCPRoute" or not hostnames:
        return (listener.host,)
    found = (narrower(listener.host, Hostname(name.lower())) for name in hostnames)
    return tuple(dict.fromkeys(host for host in found if host is not None))


def narrower(one: Hostname, other: Hostname) -> Hostname | None:
    """The narrower of two hosts, either of which may be a wildcard; None where they have nothing in common."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def _to_service(parent: Parent, namespace: str, objects: Objects) -> Attachment:
    service = objects.services.get((namespace, parent.name))
    if service is None:
        return _refused(parent, "NoMatchingParent", f"there is no Service {namespace}/{parent.name}")
    ports = {port.port for port in service.spec.ports if parent.section in ("", port.name)}
    if parent.port:
        ports &= {parent.port}
    if not ports:
        return _refused(parent, "NoMatchingParent", f"Service {namespace}/{parent.name} has no such port")
    host = Hostname(f"{parent.name}.{namespace}.svc.{objects.settings.dns_domain}")
    only = parent.port or (min(ports) if parent.section else 0)
    return Attachment(parent=parent, accepted=ACCEPTED, frontend=Frontend(namespace, (host,), only))


def _to_service_entry(route: api.Route, parent: Parent, namespace: str, objects: Objects) -> Attachment:
    entry = objects.service_entries.get((namespace, parent.name))
    declared: Sequence[str] = entry.spec.hosts if entry is not None else ()
    if not declared:
        return _refused(parent, "NoMatchingParent", f"there is no ServiceEntry {namespace}/{parent.name}")
    hosts = tuple(Hostname(host.lower()) for host in declared)
    asked = [Hostname(host.lower()) for host in route.spec.hostnames]
    if asked:
        common = [narrower(host, each) for host in hosts for each in asked]
        hosts = tuple(dict.fromkeys(host for host in common if host is not None))
        if not hosts:
            return _refused(parent, "NoMatchingListenerHostname", "the ServiceEntry has none of the route's host names")
    return Attachment(parent=parent, accepted=ACCEPTED, frontend=Frontend(namespace, hosts, parent.port))
