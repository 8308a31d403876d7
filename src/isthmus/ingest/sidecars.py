"""Sidecars become values. What this version does not do is an issue; the rest of the Sidecar counts."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.api import networking as api
from isthmus.api.core import ServicePort as PortObject
from isthmus.ingest.gateways import server_tls_of
from isthmus.ingest.services import protocol_of
from isthmus.model.gateways import TlsMode
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.sidecars import Egress, HostChoice, Ingress, Sidecar

REGISTRY_ONLY = "REGISTRY_ONLY"
_TLS = (TlsMode.SIMPLE, TlsMode.MUTUAL, TlsMode.OPTIONAL_MUTUAL)
_UNIX = "unix://"
_LOOPBACK, _ANY = "127.0.0.1", "0.0.0.0"


def sidecar_of(obj: api.Sidecar, cluster: ClusterId) -> tuple[Sidecar, tuple[Issue, ...]]:
    """With an issue for each field that has no effect."""
    spec, metadata = obj.spec, obj.metadata
    namespace = Namespace(metadata.namespace)
    policy = spec.outbound_traffic_policy
    value = Sidecar(
        created=metadata.creation_timestamp,
        namespace=namespace,
        name=metadata.name,
        selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else (),
        egress=tuple(_egress(each, namespace) for each in spec.egress) if spec.egress else None,
        ingress=tuple(map(_ingress, spec.ingress)) if spec.ingress else None,
        registry_only=policy.mode == REGISTRY_ONLY if policy and policy.mode else None,
    )
    subject = Subject(cluster, "Sidecar", metadata.namespace, metadata.name)
    return value, tuple(
        Issue(
            subject=subject,
            code="ISM0404",
            severity=Severity.WARNING,
            what=f"{field} is not done by this version",
            fix="leave it out, or know that it has no effect",
            field=f"spec.{field}",
        )
        for field in _not_done(spec)
    )


def _egress(said: api.EgressListener, namespace: Namespace) -> Egress:
    return Egress(hosts=tuple(_host(host, namespace) for host in said.hosts), port=said.port.number if said.port else 0)


def _host(written: str, own: Namespace) -> HostChoice:
    """`~/*` chooses nothing; `~namespace/host` is an exclusion."""
    namespace, _, host = written.rpartition("/")
    excluded = namespace.startswith("~") and namespace != "~"
    namespace = namespace.removeprefix("~")
    return HostChoice(own if namespace == "." else namespace, host.lower(), excluded)


def _ingress(said: api.IngressListener) -> Ingress:
    port = PortObject(port=said.port.number, name=said.port.protocol.lower() or said.port.name)
    return Ingress(
        port=said.port.number,
        name=said.port.name,
        protocol=protocol_of(port),
        forward_to=_endpoint(said),
        tls=server_tls_of(said.tls) if said.tls and said.tls.mode in _TLS else None,
    )


def _endpoint(said: api.IngressListener) -> tuple[str, int] | str | None:
    """`0.0.0.0:PORT` is the workload's own address, where connections were sent to: only the port may change."""
    if said.default_endpoint.startswith(_UNIX):
        return said.default_endpoint.removeprefix(_UNIX)
    host, _, port = said.default_endpoint.rpartition(":")
    if not port.isdecimal() or (host in (_ANY, "[::]") and int(port) == said.port.number):
        return None
    return (host.strip("[]"), int(port))


def _not_done(spec: api.SidecarSpec) -> Iterator[str]:
    if spec.outbound_traffic_policy and spec.outbound_traffic_policy.egress_proxy:
        yield "outboundTrafficPolicy.egressProxy"
    if spec.inbound_connection_pool:
        yield "inboundConnectionPool"
    for index, egress in enumerate(spec.egress):
        for field, said in (("bind", egress.bind), ("captureMode", egress.capture_mode == "NONE")):
            if said:
                yield f"egress[{index}].{field}"
    for index, ingress in enumerate(spec.ingress):
        for field, given in (
            ("bind", ingress.bind),
            ("captureMode", ingress.capture_mode == "NONE"),
            (f"tls.mode {ingress.tls.mode}" if ingress.tls else "", ingress.tls and ingress.tls.mode not in _TLS),
            ("connectionPool", ingress.connection_pool),
        ):
            if given:
                yield f"ingress[{index}].{field}"
