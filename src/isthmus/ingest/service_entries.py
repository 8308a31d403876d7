"""ServiceEntries: services that no cluster declares, and the hosts, WorkloadEntries and Pods that answer for them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from isthmus.api import networking as api
from isthmus.api.core import ServicePort as PortObject
from isthmus.ingest import labels
from isthmus.ingest.machines import health_of_entry
from isthmus.ingest.route_limits import is_server_name, refused_host
from isthmus.ingest.services import Declaration, protocol_of
from isthmus.model.addresses import is_ip
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace, NetworkId
from isthmus.model.security import Labels
from isthmus.model.services import Resolution, Service, ServicePort
from isthmus.model.topology import ClusterNetwork, Locality
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint, Health, Workload

_RESOLUTIONS = {
    "NONE": Resolution.NONE,
    "": Resolution.NONE,
    "STATIC": Resolution.ENDPOINTS,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_FIRST,
    "DYNAMIC_DNS": Resolution.DNS_OF_REQUEST,
}
_BY_NAME = (Resolution.DNS, Resolution.DNS_FIRST)
_INTERNAL = "MESH_INTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What an entry's own cluster adds to it."""

    cluster: ClusterId
    network: ClusterNetwork
    trust_domain: TrustDomain


_SOCKET = "unix://"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntry:
    """Services of one entry, with the endpoints that are written in it. `selector` chooses workloads of its namespace besides."""

    created: str
    namespace: Namespace
    name: str
    services: tuple[Service, ...]
    endpoints: tuple[Endpoint, ...]
    selector: Labels | None
    ports: tuple[tuple[str, int], ...]
    """Port names with the numbers that selected workloads listen on."""
    wants_addresses: bool = True
    """Whether names without one may be given an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A Pod or a WorkloadEntry that entries of its namespace may choose. `ports` are its own numbers for their port names."""

    workload: Workload
    health: Health = Health.HEALTHY
    ports: tuple[tuple[str, int], ...] = ()
    weight: int = 1


def service_entry_of(obj: api.ServiceEntry, where: Where) -> tuple[ServiceEntry | None, tuple[Issue, ...]]:
    """None for one whose addresses this version cannot find out."""
    spec, metadata = obj.spec, obj.metadata
    namespace = Namespace(metadata.namespace)
    resolution = _RESOLUTIONS.get(spec.resolution)
    if resolution is None:
        issue = Issue(
            subject=Subject(where.cluster, "ServiceEntry", metadata.namespace, metadata.name),
            code="ISM0403",
            severity=Severity.ERROR,
            what=f"resolution {spec.resolution} is not done by this version: the entry is left out",
            fix="use STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS or NONE",
            field="spec.resolution",
        )
        return None, (issue,)
    targets = tuple(sorted((port.name, port.target_port or port.number) for port in spec.ports))
    hosts, issues = _hosts(obj, where.cluster)
    issues += tuple(_at_sockets(obj, where.cluster))
    services = tuple(_service(host, obj, resolution, where) for host in hosts)
    return (
        ServiceEntry(
            created=metadata.creation_timestamp,
            namespace=namespace,
            name=metadata.name,
            services=services,
            endpoints=tuple(
                endpoint for service in services for endpoint in _written(service, obj, resolution, targets, where)
            ),
            selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else None,
            ports=targets,
            wants_addresses=metadata.labels.get(labels.AUTO_ALLOCATE, "").lower() != "false",
        ),
        issues,
    )


def _hosts(obj: api.ServiceEntry, cluster: ClusterId) -> tuple[list[Hostname], tuple[Issue, ...]]:
    """Without those that can be none: Envoy refuses a whole table of routes, or listener, for one. `*` would be everybody else's."""
    by_server_name = any(not _port(port).protocol.is_http for port in obj.spec.ports)
    wrong = [
        index
        for index, host in enumerate(obj.spec.hosts)
        if host == "*" or refused_host(host) or (by_server_name and not is_server_name(host))
    ]
    issues = tuple(
        Issue(
            subject=Subject(cluster, "ServiceEntry", obj.metadata.namespace, obj.metadata.name),
            code="ISM0403",
            severity=Severity.ERROR,
            what=f"{obj.spec.hosts[index]!r:.60} is no host{' of connections' if by_server_name else ''}: it is left out",
            fix="use a DNS name, or a wildcard such as *.example.com",
            field=f"spec.hosts[{index}]",
        )
        for index in wrong
    )
    return [Hostname(host.lower()) for index, host in enumerate(obj.spec.hosts) if index not in wrong], issues


def _at_sockets(obj: api.ServiceEntry, cluster: ClusterId) -> Iterator[Issue]:
    """Proxies reach workloads by addresses of networks; a socket is a file of one host."""
    for index, endpoint in enumerate(obj.spec.endpoints):
        if endpoint.address.startswith(_SOCKET):
            yield Issue(
                subject=Subject(cluster, "ServiceEntry", obj.metadata.namespace, obj.metadata.name),
                code="ISM0409",
                severity=Severity.WARNING,
                what=f"{endpoint.address:.60} is a unix socket, which no proxy is sent to: the endpoint is left out",
                fix="let the application listen at an address, and name that",
                field=f"spec.endpoints[{index}].address",
            )


def workload_entry_of(obj: api.WorkloadEntry, where: Where) -> Candidate:
    """A host outside any cluster that takes part in the mesh, or is reachable from it."""
    workload = _workload(obj.spec, Namespace(obj.metadata.namespace), obj.metadata.name, where)
    return Candidate(
        workload=workload,
        health=health_of_entry(obj),
        ports=tuple(sorted(obj.spec.ports.items())),
        weight=obj.spec.weight or 1,
    )


def selected(entry: ServiceEntry, candidates: Iterable[Candidate]) -> Iterator[Endpoint]:
    """Those of the entry's namespace that have the labels of its selector."""
    if entry.selector is None:
        return
    for candidate in candidates:
        workload = candidate.workload
        if workload.namespace == entry.namespace and set(entry.selector) <= set(workload.labels):
            ports = tuple(sorted((dict(entry.ports) | dict(candidate.ports)).items()))
            for service in entry.services:
                yield Endpoint(
                    service=service.key,
                    ip=workload.ips[0] if workload.ips else "",
                    ports=ports,
                    workload=workload,
                    health=candidate.health,
                    weight=candidate.weight,
                )


def chosen_by(declaration: Declaration, entries: Iterable[Candidate]) -> Iterator[Endpoint]:
    """WorkloadEntries that a Service selects beside Pods: hosts that moved into the cluster half-way, or never will."""
    if not declaration.selector:
        return
    for entry in entries:
        workload = entry.workload
        if workload.namespace == declaration.key.namespace and set(declaration.selector) <= set(workload.labels):
            yield Endpoint(
                service=declaration.key,
                ip=workload.ips[0] if workload.ips else "",
                ports=tuple(sorted(_targets(declaration, dict(entry.ports)))),
                workload=workload,
                health=entry.health,
                weight=entry.weight,
            )


def _targets(declaration: Declaration, own: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The entry's own number for the port's name or for its target's; a target that is a name and has none is not there."""
    for name, target in declaration.targets:
        number = own.get(name) or (own.get(target) if isinstance(target, str) else target)
        if number:
            yield name, number


def _service(host: Hostname, obj: api.ServiceEntry, resolution: Resolution, where: Where) -> Service:
    spec = obj.spec
    addresses = tuple(address for each in spec.addresses if is_ip(address := _without_length(each)))
    return Service(
        namespace=Namespace(obj.metadata.namespace),
        hostname=host,
        name=host,
        ports=tuple(sorted(map(_port, spec.ports))),
        virtual_ips=((where.cluster, addresses),) if addresses else (),
        headless=False,
        cluster_local=False,
        declared_in=(where.cluster,),
        export_to=tuple(spec.export_to),
        resolution=resolution,
        subject_names=tuple(spec.subject_alt_names),
        address_ranges=tuple(each for each in spec.addresses if _is_range(_without_length(each))),
        registry="External",
        entry=obj.metadata.name,
    )


def _port(port: api.ServiceEntryPort) -> ServicePort:
    declared = PortObject(port=port.number, name=port.protocol.lower() or port.name)
    return ServicePort(number=port.number, name=port.name, protocol=protocol_of(declared))


def _written(
    service: Service, obj: api.ServiceEntry, resolution: Resolution, targets: tuple[tuple[str, int], ...], where: Where
) -> Iterator[Endpoint]:
    """Those in the entry; a DNS entry without any is found under its own host."""
    if resolution in (Resolution.NONE, Resolution.DNS_OF_REQUEST) or obj.spec.workload_selector:
        return
    entries = obj.spec.endpoints[:1] if resolution is Resolution.DNS_FIRST else obj.spec.endpoints
    if not entries and resolution in _BY_NAME:
        entries = [api.WorkloadEntrySpec(address=service.hostname)]
    for entry in (each for each in entries if not each.address.startswith(_SOCKET)):
        own = dict(targets) | entry.ports
        workload = _workload(entry, service.namespace, "", where)
        if obj.spec.location != _INTERNAL and entry.labels.get(labels.TLS_MODE) != "istio":
            workload = _outside(workload, entry)
        yield Endpoint(
            service=service.key,
            ip=entry.address,
            ports=tuple(sorted(own.items())),
            workload=workload,
            health=Health.HEALTHY,
            weight=entry.weight or 1,
        )


def _workload(entry: api.WorkloadEntrySpec, namespace: Namespace, name: str, where: Where) -> Workload:
    """With a service account it takes part in mutual TLS, unless its label says otherwise."""
    mode = entry.labels.get(labels.TLS_MODE, "istio" if entry.service_account else "")
    account = entry.service_account
    return Workload(
        cluster=where.cluster,
        namespace=namespace,
        name=name,
        network=_said_network(entry) or where.network.of(entry.address),
        ips=(entry.address,) if entry.address else (),
        labels=tuple(sorted(entry.labels.items())),
        locality=Locality.parse(entry.locality) if entry.locality else Locality(),
        node="",
        identity=SpiffeId.of_service_account(where.trust_domain, namespace, account) if account else None,
        meshed=mode == "istio",
    )


def _outside(workload: Workload, entry: api.WorkloadEntrySpec) -> Workload:
    """Beyond the mesh nobody speaks its mutual TLS; and every network is as near, unless one is named."""
    return replace(workload, identity=None, meshed=False, network=_said_network(entry))


def _said_network(entry: api.WorkloadEntrySpec) -> NetworkId:
    return NetworkId(entry.network or entry.labels.get(labels.NETWORK, ""))


def _without_length(address: str) -> str:
    """A range of one address is that address."""
    return address.removesuffix("/32") if ":" not in address else address.removesuffix("/128")


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text
