"""Network gateways: at which addresses another network is entered, and which hosts a gateway passes through.

A Service labelled `topology.istio.io/network` stands for a network's gateway. Its addresses are read anew with each change, so a
gateway that loses its address is gone at once.
"""

from __future__ import annotations

import ipaddress

from isthmus.api.core import Service
from isthmus.api.gateway import Gateway
from isthmus.ingest import labels
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.snapshot import Exposure
from isthmus.model.topology import NetworkGateway

DEFAULT_GATEWAY_PORT = 15443
AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"


def gateways_of(service: Service, cluster: ClusterId) -> tuple[tuple[NetworkGateway, ...], tuple[Issue, ...]]:
    """The gateways that a Service stands for: none, and no issue, for a Service without the label."""
    network = service.metadata.labels.get(labels.NETWORK, "")
    if not network:
        return (), ()
    port_text = service.metadata.labels.get(labels.GATEWAY_PORT, str(DEFAULT_GATEWAY_PORT))
    if not port_text.isdecimal() or int(port_text) not in {port.port for port in service.spec.ports}:
        return (), (_no_port(service, cluster, port_text),)
    addresses, host_names = _addresses(service)
    issues = [_host_name(service, cluster, name) for name in host_names]
    if not addresses and not host_names:
        issues.append(_no_address(service, cluster, network))
    gateways = (
        NetworkGateway(address=address, port=int(port_text), network=NetworkId(network), cluster=cluster)
        for address in sorted(set(addresses))
    )
    return tuple(gateways), tuple(issues)


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


def _addresses(service: Service) -> tuple[list[str], list[str]]:
    """IP addresses, and host names that would have to be resolved."""
    balanced = [ingress.ip or ingress.hostname for ingress in service.status.load_balancer.ingress]
    found = [*service.spec.external_i_ps, *balanced]
    ips = [text for text in found if _is_ip(text)]
    return ips, [text for text in found if text and text not in ips]


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _subject(service: Service, cluster: ClusterId) -> Subject:
    return Subject(cluster, "Service", service.metadata.namespace, service.metadata.name)


def _no_port(service: Service, cluster: ClusterId, port: str) -> Issue:
    return Issue(
        subject=_subject(service, cluster),
        code="ISM0103",
        severity=Severity.ERROR,
        what=f"stands for a network's gateway, but does not list port {port}",
        fix=f"add port {port}, or name another in the label {labels.GATEWAY_PORT}",
        field="spec.ports",
    )


def _no_address(service: Service, cluster: ClusterId, network: str) -> Issue:
    return Issue(
        subject=_subject(service, cluster),
        code="ISM0104",
        severity=Severity.WARNING,
        what=f"stands for the gateway of network {network}, but has no address yet",
        fix="wait for the load balancer, or set spec.externalIPs",
        field="status.loadBalancer",
    )


def _host_name(service: Service, cluster: ClusterId, name: str) -> Issue:
    return Issue(
        subject=_subject(service, cluster),
        code="ISM0105",
        severity=Severity.WARNING,
        what=f"the gateway's address {name} is a host name, which is not resolved yet",
        fix="give the Service an IP address, for example by spec.externalIPs",
        field="status.loadBalancer",
    )
