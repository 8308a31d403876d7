"""Services: the names that workloads call, and the ports behind them."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from isthmus.model.names import ClusterId, Hostname, MeshId, Namespace, NetworkId, ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.traffic import Wishes
from isthmus.model.values import dataclass


class Protocol(StrEnum):
    """What is spoken on a port. AUTO means undeclared: detected from the first bytes."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"
    AUTO = "auto"

    @property
    def is_http(self) -> bool:
        """Whether requests, not connections, are routed."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_opaque(self) -> bool:
        """Whether only bytes are seen: never requests."""
        return not self.is_http and self is not Protocol.AUTO

    @property
    def is_tls(self) -> bool:
        """Whether clients begin with a TLS handshake of their own, which tells the name that they ask for."""
        return self in (Protocol.HTTPS, Protocol.TLS)

    @property
    def is_http2(self) -> bool:
        """Whether it is HTTP/2 from the first byte."""
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)


class Resolution(StrEnum):
    """How a caller's proxy finds addresses: the control plane tells it; it asks DNS itself (and uses all answers, or the first of one name);
    it asks DNS for whatever host a request names; or the application has chosen one."""

    ENDPOINTS = "endpoints"
    DNS = "dns"
    DNS_FIRST = "dns-first"
    DNS_OF_REQUEST = "dns-of-request"
    NONE = "none"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ServicePort:
    """A port that callers use. Endpoints of every cluster match it by name, not by number."""

    number: int
    name: str
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the mesh, merged from every cluster that declares it.

    `virtual_ips` has each declaring cluster's addresses, sorted by cluster; a headless service has none.
    `declared_in` is sorted. Ports are the union over clusters, sorted by number: the first cluster by id wins a conflict.
    """

    namespace: Namespace
    hostname: Hostname
    name: str
    ports: tuple[ServicePort, ...]
    virtual_ips: tuple[tuple[ClusterId, tuple[str, ...]], ...]
    headless: bool
    cluster_local: bool
    declared_in: tuple[ClusterId, ...]
    traffic_distribution: str = ""
    node_local_in: tuple[ClusterId, ...] = ()
    """Clusters whose callers are to stay on their own node (`internalTrafficPolicy: Local`); sorted."""
    export_to: tuple[str, ...] = ()
    """Namespaces that may know of it, `.` for its own, `~` for none; empty is all."""
    resolution: Resolution = Resolution.ENDPOINTS
    publishes_not_ready: bool = False
    """Whether callers are given endpoints before these are ready."""
    subject_names: tuple[str, ...] = ()
    """What the servers' own certificates say, where they have any that are not the mesh's."""
    allocated: tuple[str, ...] = ()
    """Addresses of the whole mesh, for callers that ask this mesh for names and whose cluster has none for this one."""
    address_ranges: tuple[str, ...] = ()
    """Ranges of addresses that applications connect to, where a service has no single ones."""
    aliases: tuple[tuple[Namespace, str], ...] = ()
    """Other names for it: namespaces and names of Services of type ExternalName that lead to it; sorted."""
    near_in: tuple[NetworkId, ...] | None = None
    """Networks on which the name of a headless service, or of one of its Pods, leads to Pods themselves; sorted. Callers on others are given
    one of the mesh's addresses (`allocated`), and reach Pods through gateways. None: there are no others."""
    pod_of: ServiceKey | None = None
    """The headless service that this one is a Pod of: its rules, and who may see it, are this one's, too."""
    behind: tuple[ServiceKey, ...] = ()
    """The services whose workloads answer for a global name; sorted. Where gateways pass these through, they pass through the name."""
    wishes: Wishes = field(default_factory=Wishes)
    registry: str = "Kubernetes"
    """Or `External`, as Istio's name table calls a ServiceEntry's."""
    entry: str = ""
    """The name of the object that declares it, where that is another one than the service's: of a ServiceEntry, a ServiceImport, a MeshPeer."""
    mesh: MeshId = MeshId("")
    """The other mesh that it is in; empty for this one."""
    exported: ServiceKey | None = None
    """Of a mesh name for a service of this mesh: which one it is."""

    @property
    def key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.hostname)

    @property
    def kind(self) -> str:
        """Of the object that declares it."""
        if self.behind:
            return "GlobalName"
        if self.mesh or self.exported:
            return "MeshPeer"
        if self.registry != "Kubernetes":
            return "ServiceEntry"
        return "ServiceImport" if self.entry else "Service"

    @property
    def origin(self) -> Origin:
        """The object that declares it. A MeshPeer is in no namespace."""
        is_peers = bool(self.mesh and self.entry)
        return Origin(self.kind, "" if is_peers else self.namespace, self.entry or self.name)

    @property
    def is_second_name(self) -> bool:
        """Whether other services say what it is: of a workload that has both names, the other one is its own."""
        return self.pod_of is not None or bool(self.behind or self.exported)

    def ips_in(self, cluster: ClusterId) -> tuple[str, ...]:
        """The virtual addresses that this cluster gave the service; empty where it does not declare it."""
        return dict(self.virtual_ips).get(cluster, ())

    @property
    def frame_depends_on_endpoints(self) -> bool:
        """Whether callers' listeners or clusters name the endpoints: applications connect to them, or proxies ask DNS for them."""
        return self.headless or self.resolution is not Resolution.ENDPOINTS
