"""Backends: whether what routes lead to is there. That is known once the services of all clusters are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from isthmus.model.attachments import Attachments, Backend, RouteAttachments
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, ServiceKey
from isthmus.model.services import Service


def ports_by_host(services: Mapping[ServiceKey, Service]) -> dict[Hostname, set[int]]:
    """What there is to lead to."""
    found: dict[Hostname, set[int]] = {}
    for service in services.values():
        found.setdefault(service.hostname, set()).update(port.number for port in service.ports)
    return found


def missing(route: RouteAttachments, known: Mapping[Hostname, set[int]]) -> Sequence[Backend]:
    """The backends of a route that nobody declares."""
    return [backend for backend in route.backends if backend.host not in known]


def backend_issues(
    attachments: Attachments, services: Mapping[ServiceKey, Service], cluster: ClusterId
) -> Iterator[Issue]:
    """One for each backend that is not there, or not at this port."""
    if not attachments.routes:
        return
    known = ports_by_host(services)
    for route in attachments.routes:
        for backend in route.backends:
            if backend.port in known.get(backend.host, set()):
                continue
            what = (
                f"there is no {backend.written}"
                if backend.host not in known
                else f"{backend.written} has no port {backend.port}"
            )
            yield Issue(
                subject=Subject(cluster, route.kind, route.namespace, route.name),
                code="ISM0603",
                severity=Severity.ERROR,
                what=what,
                fix="mend the reference; until then its requests are answered 500",
                field="spec.rules",
            )
