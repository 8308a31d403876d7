"""Mirrors that lead nowhere: nobody who calls notices, for the answer of a mirror is thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace, ServiceKey
from isthmus.model.routing import VirtualService
from isthmus.model.services import Service, ServicePort


def mirrors_without_port(
    rules: Iterable[VirtualService], services: Mapping[ServiceKey, Service], cluster: ClusterId
) -> Iterator[Issue]:
    """Of a service with several ports a mirror without one means the port that was called, which the service may not have."""
    for found in rules:
        targets = [target for rule in found.rules for target, _ in rule.mirrors if not target.port]
        called = _numbers(_ports(found.hosts, found, services), of_requests=True) if targets else frozenset()
        for target in targets:
            ports = _numbers(_ports((target.host,), found, services))
            if len(ports) > 1 and (not called or called - ports):
                shown = ", ".join(map(str, sorted(ports)))
                yield Issue(
                    subject=Subject(cluster, "VirtualService", found.namespace, found.name),
                    code="ISM0410",
                    severity=Severity.WARNING,
                    what=f"a mirror names no port of {target.host}, which has {shown}: requests to any other port are not mirrored",
                    fix="write the port of the mirror's destination",
                    field="spec.http.mirror.port",
                )


def _ports(
    hosts: Iterable[Hostname], rule: VirtualService, services: Mapping[ServiceKey, Service]
) -> Iterator[ServicePort]:
    """Of the services of these names: in the namespace that a name of Kubernetes says, or the rule's own."""
    for host in hosts:
        namespace = Namespace(next(iter(host.split(".", 2)[1:]), ""))
        service = services.get(ServiceKey(namespace, host)) or services.get(ServiceKey(rule.namespace, host))
        yield from service.ports if service else ()


def _numbers(ports: Iterable[ServicePort], *, of_requests: bool = False) -> frozenset[int]:
    return frozenset(port.number for port in ports if not (of_requests and port.protocol.is_opaque))
