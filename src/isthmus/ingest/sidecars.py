"""Sidecars become values. What has no effect is an issue; the rest of the Sidecar counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from isthmus.api import networking as api
from isthmus.api.core import ServicePort as PortObject
from isthmus.ingest.destination_rules import full_name
from isthmus.ingest.gateways import server_tls_of
from isthmus.ingest.services import protocol_of
from isthmus.ingest.traffic_policies import pool_of
from isthmus.model.addresses import is_ip, is_port
from isthmus.model.gateways import TlsMode
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.routing import Target
from isthmus.model.sidecars import Egress, HostChoice, Ingress, Place, Sidecar
from isthmus.model.traffic import ConnectionPool

REGISTRY_ONLY = "REGISTRY_ONLY"
_CODE = "ISM0404"
_TLS = (TlsMode.SIMPLE, TlsMode.MUTUAL, TlsMode.OPTIONAL_MUTUAL)
_UNIX = "unix://"
_LOOPBACK = "127.0.0.1"
_ANYWHERE = ("", "0.0.0.0", "::")
_NO_SOCKET = "nor unix:// and a path that a socket can have"
_SOCKET_LENGTH_MAX = 107
"""What the kernel takes."""
_NONE = "NONE"
"""Of captureMode: the proxy listens itself."""


def sidecar_of(obj: api.Sidecar, cluster: ClusterId, dns_domain: str) -> tuple[Sidecar, tuple[Issue, ...]]:
    """With an issue for each field that has no effect."""
    spec, metadata = obj.spec, obj.metadata
    namespace = Namespace(metadata.namespace)
    policy = spec.outbound_traffic_policy
    subject = Subject(cluster, "Sidecar", metadata.namespace, metadata.name)
    pools = _Pools(subject)
    value = Sidecar(
        created=metadata.creation_timestamp,
        namespace=namespace,
        name=metadata.name,
        selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else (),
        egress=tuple(_egress(each, namespace) for each in spec.egress) if spec.egress else None,
        ingress=tuple(_ingress(each, pools, f"spec.ingress[{index}]") for index, each in enumerate(spec.ingress))
        if spec.ingress
        else None,
        registry_only=policy.mode == REGISTRY_ONLY if policy and policy.mode else None,
        egress_proxy=_egress_proxy(policy.egress_proxy, namespace, dns_domain)
        if policy and policy.egress_proxy
        else None,
        inbound_pool=pools.read(spec.inbound_connection_pool, "spec.inboundConnectionPool"),
    )
    without_effect = tuple(
        Issue(
            subject=subject,
            code=_CODE,
            severity=Severity.WARNING,
            what=f"{field} {why}",
            fix="leave it out, or know that it has no effect",
            field=f"spec.{field}",
        )
        for field, why in _without_effect(spec)
    )
    return value, (*without_effect, *pools.issues)


class _Pools:
    """Reads limits of connections, and gathers what is wrong with them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.issues: list[Issue] = []

    def read(self, said: api.ConnectionPool | None, field: str) -> ConnectionPool | None:
        if said is None:
            return None
        pool, issues = pool_of(said, self._subject, field)
        self.issues += (replace(issue, code=_CODE) for issue in issues)
        return pool


def _egress_proxy(said: api.EgressProxy, namespace: Namespace, dns_domain: str) -> Target:
    host = full_name(said.host, namespace, dns_domain)
    return Target(host=host, subset=said.subset, port=said.port.number if said.port else 0)


def _egress(said: api.EgressListener, namespace: Namespace) -> Egress:
    return Egress(
        hosts=tuple(_host(host, namespace) for host in said.hosts),
        port=said.port.number if said.port else 0,
        place=_place(said),
    )


def _place(said: api.EgressListener) -> Place | None:
    """Where captureMode is NONE and no address is said, applications call this machine. What is no address is as if it were not said."""
    number = said.port.number if said.port else 0
    if _is_socket(said.bind):
        return Place(said.bind.removeprefix(_UNIX), 0, is_bound=True)
    bind = said.bind if is_ip(said.bind) else ""
    if said.capture_mode == _NONE:
        return Place(bind or _LOOPBACK, number, is_bound=True)
    return Place(bind, number, is_bound=False) if bind not in _ANYWHERE else None


def _host(written: str, own: Namespace) -> HostChoice:
    """`~/*` chooses nothing; `~namespace/host` is an exclusion."""
    namespace, _, host = written.rpartition("/")
    excluded = namespace.startswith("~") and namespace != "~"
    namespace = namespace.removeprefix("~")
    return HostChoice(own if namespace == "." else namespace, host.lower(), excluded)


def _ingress(said: api.IngressListener, pools: _Pools, field: str) -> Ingress:
    is_bound = said.capture_mode == _NONE
    port = PortObject(port=said.port.number, name=said.port.protocol.lower() or said.port.name)
    return Ingress(
        port=said.port.number,
        name=said.port.name,
        protocol=protocol_of(port),
        forward_to=_endpoint(said) or ((_LOOPBACK, said.port.number) if is_bound else None),
        tls=server_tls_of(said.tls) if said.tls and said.tls.mode in _TLS else None,
        pool=pools.read(said.connection_pool, f"{field}.connectionPool"),
        address=said.bind if is_bound and is_ip(said.bind) else "",
        is_bound=is_bound,
    )


def _endpoint(said: api.IngressListener) -> tuple[str, int] | str | None:
    """`0.0.0.0:PORT` is the workload's own address, where connections were sent to: only the port may change."""
    if _is_socket(said.default_endpoint):
        return said.default_endpoint.removeprefix(_UNIX)
    if not _is_address(said.default_endpoint):
        return None
    host, _, port = said.default_endpoint.rpartition(":")
    host = host.strip("[]")
    return None if host in _ANYWHERE and int(port) == said.port.number else (host, int(port))


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return is_ip(host.strip("[]")) and is_port(port)


def _is_socket(text: str) -> bool:
    """Whether it is a Unix domain socket that Envoy can listen on or call."""
    path = text.removeprefix(_UNIX)
    is_path = path.startswith(("/", "@")) and not path.endswith("/")
    return text.startswith(_UNIX) and is_path and len(path.encode()) <= _SOCKET_LENGTH_MAX


def _without_effect(spec: api.SidecarSpec) -> Iterator[tuple[str, str]]:
    """Fields, each with the reason."""
    policy = spec.outbound_traffic_policy
    if policy and policy.egress_proxy and policy.mode == REGISTRY_ONLY:
        yield "outboundTrafficPolicy.egressProxy", "has nothing to do where the mode is REGISTRY_ONLY"
    elif policy and policy.egress_proxy and not (policy.egress_proxy.port and policy.egress_proxy.port.number):
        yield (
            "outboundTrafficPolicy.egressProxy",
            "has no port: what is for nobody in the mesh ends, as with REGISTRY_ONLY",
        )
    for index, egress in enumerate(spec.egress):
        if egress.bind and not is_ip(egress.bind) and not _is_socket(egress.bind):
            yield f"egress[{index}].bind", f"is {egress.bind!r}, neither an IP address {_NO_SOCKET}"
    for index, ingress in enumerate(spec.ingress):
        if ingress.bind and not is_ip(ingress.bind):
            yield f"ingress[{index}].bind", f"is {ingress.bind!r}, not an IP address"
        elif ingress.bind not in _ANYWHERE and ingress.capture_mode != _NONE:
            yield f"ingress[{index}].bind", "holds for a listener of the proxy's own only (captureMode NONE)"
        end = ingress.default_endpoint
        if end and not _is_socket(end) and not _is_address(end):
            yield f"ingress[{index}].defaultEndpoint", f"is {end!r}, neither IP:PORT {_NO_SOCKET}"
        if ingress.tls and ingress.tls.mode not in _TLS:
            yield f"ingress[{index}].tls.mode {ingress.tls.mode}", "is not a mode of a sidecar"
