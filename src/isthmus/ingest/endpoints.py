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
    """Every address of the slice. FQDN slices have none: there is no address to give.

    A Pod that is named but not known yet, because its own object comes later, takes no requests until it is: nobody can tell whether
    they have to be encrypted.
    """
    if slice_.address_type == "FQDN":
        return ()
    ports = tuple(sorted((port.name, port.port) for port in slice_.ports or () if port.port is not None))
    return tuple(
        Endpoint(
            service=service,
            ip=address,
            ports=ports,
            workload=workload,
            health=_health(endpoint) if workload.name or not pod_named_by(slice_, endpoint) else Health.UNHEALTHY,
            hostname=endpoint.hostname,
        )
        for endpoint in slice_.endpoints or ()
        for address in endpoint.addresses
        for workload in (find_workload(endpoint, address),)
    )


def pod_named_by(slice_: EndpointSlice, endpoint: SliceEndpoint) -> tuple[str, str] | None:
    """Namespace and name of the Pod that the slice names for the endpoint; None where it names none."""
    target = endpoint.target_ref
    if target is None or target.kind != "Pod":
        return None
    return (target.namespace or slice_.metadata.namespace, target.name)


def _health(endpoint: SliceEndpoint) -> Health:
    """`ready` first: a Service that publishes addresses that are not ready has it true for Pods that shut down, too. An unknown one
    counts as ready (EndpointSlice API reference).
    """
    conditions = endpoint.conditions
    if conditions.ready:
        return Health.HEALTHY
    if conditions.terminating:
        return Health.TERMINATING
    return Health.UNHEALTHY if conditions.ready is False else Health.HEALTHY
