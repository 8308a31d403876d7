"""Gateways: at which addresses another network is entered, which hosts a gateway passes through, and what ingress gateways listen for.

A Service labelled `topology.istio.io/network` stands for a network's gateway, and so does one that MeshNetworks names. Its addresses
are read anew with each change, so a gateway that loses its address is gone at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from isthmus.api.core import Node, Service
from isthmus.api.gateway import Gateway, GatewayServer, GatewayTls
from isthmus.ingest import labels
from isthmus.ingest.route_limits import is_server_name
from isthmus.model.gateways import (
    Server,
    ServerHost,
    ServerTls,
    TlsMode,
    Traffic,
    is_certificate_hash,
    is_key_hash,
)
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace, NetworkId, ServiceKey
from isthmus.model.snapshot import Exposure, MeshSettings
from isthmus.model.topology import NetworkGateway
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint

DEFAULT_GATEWAY_PORT = 15443
AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
_TRAFFIC = {
    "HTTP": Traffic.HTTP,
    "HTTP2": Traffic.HTTP,
    "GRPC": Traffic.HTTP,
    "GRPC-WEB": Traffic.HTTP,
    "HTTPS": Traffic.HTTPS,
    "TLS": Traffic.TLS,
    "TCP": Traffic.TCP,
    "MONGO": Traffic.TCP,
    "MYSQL": Traffic.TCP,
    "REDIS": Traffic.TCP,
}
_BY_NAME = (Traffic.HTTPS, Traffic.TLS)


@dataclass(frozen=True, slots=True)
class Entrance:
    """That a Service is the way into a network, at one of its ports (as written)."""

    network: NetworkId
    port: str


def entrances_of(service: Service, cluster: ClusterId, settings: MeshSettings) -> tuple[Entrance, ...]:
    """By the Service's own label, and by MeshNetworks, which means the Service of the network's own clusters only."""
    found = []
    network = service.metadata.labels.get(labels.NETWORK, "")
    if network:
        port = service.metadata.labels.get(labels.GATEWAY_PORT, str(DEFAULT_GATEWAY_PORT))
        found.append(Entrance(NetworkId(network), port))
    if settings.networks.gateway_services:
        own = f"{service.metadata.name}.{service.metadata.namespace}.svc.{settings.dns_domain}"
        found += [
            Entrance(named.network, str(named.port))
            for named in settings.networks.gateway_services
            if named.hostname == own and settings.networks.of_cluster(cluster) == named.network
        ]
    return tuple(found)


def peer_entrances_of(service: Service, default: NetworkId) -> tuple[Entrance, ...]:
    """By its label, a Service is where other meshes enter; into the network that it says, or the cluster's."""
    port = service.metadata.labels.get(labels.PEER_GATEWAY_PORT, "")
    network = NetworkId(service.metadata.labels.get(labels.NETWORK, "")) or default
    return (Entrance(network, port),) if port else ()


def is_on_node_ports(service: Service) -> bool:
    """Whether its addresses are those of Nodes, which an annotation chooses."""
    return service.spec.type == "NodePort" and labels.NODE_SELECTOR in service.metadata.annotations


def gateways_of(
    service: Service, cluster: ClusterId, entrances: Sequence[Entrance], nodes: Sequence[Node]
) -> tuple[tuple[NetworkGateway, ...], tuple[Issue, ...]]:
    """The gateways that a Service stands for, and what is wrong with it as a gateway. Their addresses may be host names."""
    gateways: set[NetworkGateway] = set()
    issues: list[Issue] = []
    for entrance in entrances:
        declared = {str(port.port): port for port in service.spec.ports}
        if entrance.port not in declared:
            issues.append(_no_port(service, cluster, entrance.port))
            continue
        port = declared[entrance.port]
        addresses = _addresses(service)
        number = port.port
        if is_on_node_ports(service):
            addresses, number = list(_addresses_of_nodes(service, nodes)), port.node_port
        if not addresses:
            issues.append(_no_address(service, cluster, entrance.network))
        gateways |= {
            NetworkGateway(address=address, port=number, network=entrance.network, cluster=cluster)
            for address in addresses
        }
    return tuple(sorted(gateways)), tuple(issues)


def exposures_of(gateway: Gateway) -> tuple[Exposure, ...]:
    """What a Gateway exposes by pass-through. Its servers of other modes are no network gateway's business."""
    return tuple(
        Exposure(
            namespace=Namespace(gateway.metadata.namespace),
            name=gateway.metadata.name,
            selector=tuple(sorted(gateway.spec.selector.items())),
            port=server.port.number,
            hosts=tuple(server.hosts),
        )
        for server in gateway.spec.servers
        if server.tls.mode == AUTO_PASSTHROUGH
    )


def servers_of(gateway: Gateway, cluster: ClusterId) -> tuple[tuple[Server, ...], tuple[Issue, ...]]:
    """What a Gateway's proxies listen for, but pass-through by SNI of the mesh's own."""
    found: list[Server] = []
    issues: list[Issue] = []
    for index, server in enumerate(gateway.spec.servers):
        if server.tls.mode == AUTO_PASSTHROUGH:
            continue
        traffic = _TRAFFIC.get(server.port.protocol.upper())
        field = f"spec.servers[{index}]"
        if traffic is None:
            issues.append(
                _bad(
                    gateway,
                    cluster,
                    f"{field}.port.protocol",
                    *_unknown(f"protocol {server.port.protocol!r}", _TRAFFIC),
                )
            )
        elif server.tls.mode and server.tls.mode not in TlsMode.__members__:
            issues.append(
                _bad(gateway, cluster, f"{field}.tls.mode", *_unknown(f"TLS mode {server.tls.mode!r}", TlsMode))
            )
        else:
            read = _server(gateway, index, server, traffic)
            kept = tuple(host for host in read.hosts if traffic not in _BY_NAME or is_server_name(host.host))
            issues += (
                _bad(gateway, cluster, f"{field}.hosts", *_no_name(host.host))
                for host in read.hosts
                if host not in kept
            )
            if kept or not read.hosts:
                found.append(replace(read, hosts=kept))
    return tuple(found), tuple(issues)


def _server(gateway: Gateway, index: int, server: GatewayServer, traffic: Traffic) -> Server:
    metadata = gateway.metadata
    return Server(
        created=metadata.creation_timestamp,
        namespace=Namespace(metadata.namespace),
        gateway=metadata.name,
        index=index,
        selector=tuple(sorted(gateway.spec.selector.items())),
        bind=server.bind,
        port=server.port.number,
        port_name=server.port.name,
        traffic=traffic,
        hosts=tuple(_server_host(host, metadata.namespace) for host in server.hosts),
        tls=server_tls_of(server.tls) if traffic in (Traffic.HTTPS, Traffic.TLS) else None,
        redirect_to_https=server.tls.https_redirect,
    )


def _server_host(written: str, own: str) -> ServerHost:
    namespace, _, host = written.rpartition("/")
    return ServerHost({"": "*", ".": own}.get(namespace, namespace), host.lower())


_OF_NOTHING = "0" * 64
"""No certificate has this hash."""


def server_tls_of(said: GatewayTls) -> ServerTls:
    """Also of a Sidecar's ingress listener. Where none of the hashes of callers' certificates is one, nobody is taken: Envoy would refuse it."""
    hashes = tuple(filter(is_certificate_hash, said.verify_certificate_hash))
    keys = tuple(filter(is_key_hash, said.verify_certificate_spki))
    demanded = bool(said.verify_certificate_hash or said.verify_certificate_spki)
    return ServerTls(
        mode=TlsMode(said.mode or TlsMode.PASSTHROUGH),
        credentials=tuple(said.credential_names) or ((said.credential_name,) if said.credential_name else ()),
        authorities=said.ca_cert_credential_name,
        certificate=said.server_certificate,
        private_key=said.private_key,
        ca_certificates=said.ca_certificates,
        revocations=said.ca_crl,
        names=tuple(said.subject_alt_names),
        certificate_hashes=hashes or ((_OF_NOTHING,) if demanded and not keys else ()),
        key_hashes=keys,
        minimum=said.min_protocol_version,
        maximum=said.max_protocol_version,
        ciphers=tuple(said.cipher_suites),
    )


def _addresses(service: Service) -> list[str]:
    """IP addresses, and host names that are to be resolved."""
    balanced = [ingress.ip or ingress.hostname for ingress in service.status.load_balancer.ingress]
    return [text for text in [*service.spec.external_i_ps, *balanced] if text]


def _addresses_of_nodes(service: Service, nodes: Sequence[Node]) -> Iterator[str]:
    """The external addresses of the Nodes that have the annotation's labels. A selector that cannot be read chooses none."""
    try:
        wanted = json.loads(service.metadata.annotations[labels.NODE_SELECTOR])
    except ValueError:
        return
    if not isinstance(wanted, dict):
        return
    for node in nodes:
        if wanted.items() <= node.metadata.labels.items():
            yield from (each.address for each in node.status.addresses if each.type == "ExternalIP")


def _subject(service: Service, cluster: ClusterId) -> Subject:
    return Subject(cluster, "Service", service.metadata.namespace, service.metadata.name)


def _no_port(service: Service, cluster: ClusterId, port: str) -> Issue:
    return Issue(
        subject=_subject(service, cluster),
        code="ISM0103",
        severity=Severity.ERROR,
        what=f"stands for a network's gateway, but does not list port {port}",
        fix=f"add port {port}, or name another in the label {labels.GATEWAY_PORT} (or in MeshNetworks)",
        field="spec.ports",
    )


def _bad(gateway: Gateway, cluster: ClusterId, field: str, what: str, fix: str) -> Issue:
    return Issue(
        subject=Subject(cluster, "Gateway", gateway.metadata.namespace, gateway.metadata.name),
        code="ISM0406",
        severity=Severity.ERROR,
        what=what,
        fix=fix,
        field=field,
    )


def _unknown(what: str, known: Iterable[str]) -> tuple[str, str]:
    return f"{what} is not known: the server is left out", f"use one of {', '.join(known)}"


def _no_name(host: str) -> tuple[str, str]:
    what = f"{host!r:.60} is no server name of TLS, neither whole nor *. and the end of one: it is left out"
    return what, "write names whole, or *.example.com, or * for all"


def _no_address(service: Service, cluster: ClusterId, network: str) -> Issue:
    return Issue(
        subject=_subject(service, cluster),
        code="ISM0104",
        severity=Severity.WARNING,
        what=f"stands for the gateway of network {network}, but has no address yet",
        fix="wait for the load balancer, or set spec.externalIPs; with node ports, choose Nodes that have an ExternalIP",
        field="status.loadBalancer",
    )


def networks_without_gateway(
    settings: MeshSettings,
    endpoints: Mapping[ServiceKey, tuple[Endpoint, ...]],
    entered: Set[NetworkId],
) -> list[Issue]:
    """A network whose workloads others cannot reach is told once, not for each endpoint."""
    with_endpoints = {endpoint.network for found in endpoints.values() for endpoint in found}
    if len(with_endpoints) < 2 or settings.unreachable_networks_direct:
        return []
    return [
        Issue(
            subject=Subject(ClusterId(""), "Network", "", network),
            code="ISM0102",
            severity=Severity.WARNING,
            what=f"network {network} has workloads but no gateway: other networks cannot reach them",
            fix=f"run a network gateway there, with a LoadBalancer Service labelled {labels.NETWORK}={network}",
        )
        for network in sorted(with_endpoints - entered)
        if network
    ]
