"""EndpointSlices become Endpoints: which workload answers for which service, on which ports, and how it feels."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.api.core import EndpointSlice, SliceEndpoint
from isthmus.ingest import labels
from isthmus.model.names import Hostname, Namespace, ServiceKey
from isthmus.model.workloads import Endpoint, Health, Workload

FindWorkload = Callable[[SliceEndpoint, str], Workload]
"""The workload behind a slice's endpoint at one of its addresses."""


def service_of(slice_: EndpointSlice, dns_domain: str) -> ServiceKey | None:
    """The service that a slice belongs to; None where it names none (a slice of some other controller)."""
    name = slice_.metadata.labels.get(labels.SERVICE_NAME, "")
    namespace = Namespace(slice_.metadata.namespace)
    return ServiceKey(namespace, Hostname(f"{name}.{namespace}.svc.{dns_domain}")) if name else None


def endpoints_of(slice_: EndpointSlice, service: ServiceKey, find_workload: FindWorkload) -> tuple[Endpoint, ...]:
    """Every address of the slice. FQDN slices have none: there is no address to give."""
    if slice_.address_type == "FQDN":
        return ()
    ports = tuple(sorted((port.name, port.port) for port in slice_.ports or () if port.port is not None))
    return tuple(
        Endpoint(
            service=service,
            ip=address,
            ports=ports,
            workload=find_workload(endpoint, address),
            health=_health(endpoint),
            hostname=endpoint.hostname,
        )
        for endpoint in slice_.endpoints or ()
        for address in endpoint.addresses
    )


def _health(endpoint: SliceEndpoint) -> Health:
    """An unknown `ready` counts as ready (EndpointSlice API reference)."""
    if endpoint.conditions.terminating:
        return Health.TERMINATING
    return Health.UNHEALTHY if endpoint.conditions.ready is False else Health.HEALTHY
