"""Services: what one cluster declares, and how the declarations of several clusters become one service (namespace sameness)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import reduce

from isthmus.api.core import Service as ServiceObject
from isthmus.api.core import ServicePort as PortObject
from isthmus.ingest import labels
from isthmus.ingest.destination_rules import wishes_of
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace, ServiceKey
from isthmus.model.security import Labels
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.traffic import Wishes
from isthmus.model.values import dataclass

_BY_NAME = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC_WEB,
    "https": Protocol.HTTPS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
    "udp": Protocol.UDP,
}
_BY_APP_PROTOCOL = _BY_NAME | {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
_SERVER_SPEAKS_FIRST = frozenset({25, 53, 3306, 27017})
"""Ports whose servers speak first: sniffing would wait for a client that waits for the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A Service as one cluster has it."""

    cluster: ClusterId
    key: ServiceKey
    name: str
    ports: tuple[ServicePort, ...]
    ips: tuple[str, ...]
    headless: bool
    traffic_distribution: str = ""
    node_local: bool = False
    export_to: tuple[str, ...] = ()
    publishes_not_ready: bool = False
    wishes: Wishes = field(default_factory=Wishes)
    created: str = ""
    selector: Labels = ()
    targets: tuple[tuple[str, int | str], ...] = ()
    """Port names, with the number (or the name) that workloads listen on."""


def declaration_of(service: ServiceObject, *, cluster: ClusterId, dns_domain: str) -> Declaration | None:
    """None for an ExternalName, which has no endpoints of its own (`aliases`)."""
    if service.spec.type == "ExternalName":
        return None
    namespace = Namespace(service.metadata.namespace)
    name = service.metadata.name
    ips = tuple(service.spec.cluster_i_ps) or ((service.spec.cluster_i_p,) if service.spec.cluster_i_p else ())
    headless = "None" in ips
    return Declaration(
        cluster=cluster,
        key=ServiceKey(namespace, Hostname(f"{name}.{namespace}.svc.{dns_domain}")),
        name=name,
        ports=tuple(_port(port) for port in service.spec.ports),
        ips=() if headless else ips,
        headless=headless,
        publishes_not_ready=service.spec.publish_not_ready_addresses,
        node_local=service.spec.internal_traffic_policy == "Local",
        traffic_distribution=service.spec.traffic_distribution
        or service.metadata.annotations.get(labels.TRAFFIC_DISTRIBUTION, ""),
        export_to=tuple(
            part.strip() for part in service.metadata.annotations.get(labels.EXPORT_TO, "").split(",") if part.strip()
        ),
        wishes=wishes_of(service.metadata.annotations),
        created=service.metadata.creation_timestamp,
        selector=tuple(sorted(service.spec.selector.items())),
        targets=tuple((port.name, port.target_port or port.port) for port in service.spec.ports),
    )


def merged(declarations: Sequence[Declaration], *, cluster_local: bool) -> tuple[Service, tuple[Issue, ...]]:
    """One service out of every cluster's declaration, in the order of cluster ids.

    Ports are the union by number, those of UDP apart from the others (DNS has 53 of both). Where two clusters name one differently, the
    first cluster wins and an issue says so.
    """
    ordered = sorted(declarations, key=lambda declaration: declaration.cluster)
    first = ordered[0]
    ports: dict[tuple[int, bool], tuple[ServicePort, ClusterId]] = {}
    issues: list[Issue] = []
    for declaration in ordered:
        for port in declaration.ports:
            place = (port.number, port.protocol is Protocol.UDP)
            taken, owner = ports.setdefault(place, (port, declaration.cluster))
            if taken != port:
                issues.append(_port_conflict(declaration, port, taken, owner))
        issues += _contradictions(declaration, first)
    service = Service(
        namespace=first.key.namespace,
        hostname=first.key.hostname,
        name=first.name,
        ports=tuple(port for _, (port, _) in sorted(ports.items())),
        virtual_ips=tuple((declaration.cluster, declaration.ips) for declaration in ordered if declaration.ips),
        headless=all(declaration.headless for declaration in ordered),
        cluster_local=cluster_local,
        publishes_not_ready=any(declaration.publishes_not_ready for declaration in ordered),
        declared_in=tuple(declaration.cluster for declaration in ordered),
        node_local_in=tuple(declaration.cluster for declaration in ordered if declaration.node_local),
        traffic_distribution=next((each.traffic_distribution for each in ordered if each.traffic_distribution), ""),
        export_to=first.export_to,
        wishes=reduce(Wishes.over, (each.wishes for each in ordered)),
    )
    return service, tuple(issues)


def protocol_of(port: PortObject) -> Protocol:
    """By transport, then `appProtocol`, then the prefix of the port's name; else detected, or TCP where the server speaks first."""
    if port.protocol == "UDP":
        return Protocol.UDP
    declared = _BY_APP_PROTOCOL.get(port.app_protocol.lower())
    if declared is not None:
        return declared
    for prefix in _prefixes(port.name.lower()):
        if prefix in _BY_NAME:
            return _BY_NAME[prefix]
    return Protocol.TCP if port.port in _SERVER_SPEAKS_FIRST else Protocol.AUTO


def _port(port: PortObject) -> ServicePort:
    return ServicePort(number=port.port, name=port.name, protocol=protocol_of(port))


def _prefixes(name: str) -> list[str]:
    """`grpc-web-x` gives `grpc-web-x`, `grpc-web`, `grpc`: the longest known one names the protocol."""
    parts = name.split("-")
    return ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _port_conflict(declaration: Declaration, port: ServicePort, taken: ServicePort, owner: ClusterId) -> Issue:
    return Issue(
        subject=Subject(declaration.cluster, "Service", declaration.key.namespace, declaration.name),
        code="ISM0101",
        severity=Severity.WARNING,
        what=(
            f"port {port.number} is {port.name!r} ({port.protocol.value}) here, "
            f"but {taken.name!r} ({taken.protocol.value}) in {owner}, which wins"
        ),
        fix="give the port the same name and protocol in every cluster: endpoints match ports by name",
        field="spec.ports",
    )


def _contradictions(declaration: Declaration, first: Declaration) -> Iterator[Issue]:
    """What one service cannot be in two ways."""
    subject = Subject(declaration.cluster, "Service", declaration.key.namespace, declaration.name)
    if declaration.headless != first.headless:
        yield Issue(
            subject=subject,
            code="ISM0108",
            severity=Severity.WARNING,
            what=f"is {_headless(declaration)} here, but {_headless(first)} in {first.cluster}: it is taken to be not headless",
            fix="declare it alike in every cluster",
            field="spec.clusterIP",
        )
    here, there = (", ".join(sorted(each.export_to)) or "*" for each in (declaration, first))
    if here != there:
        yield Issue(
            subject=subject,
            code="ISM0108",
            severity=Severity.WARNING,
            what=f"is exported to {here} here, but to {there} in {first.cluster}, which wins",
            fix=f"give the annotation {labels.EXPORT_TO} the same value in every cluster",
            field="metadata.annotations",
        )


def _headless(declaration: Declaration) -> str:
    return "headless" if declaration.headless else "not headless"
