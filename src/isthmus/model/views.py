"""View: what one proxy is to know, and what it is not, with the reason.

Everything is sorted, so equal meshes give equal views; equal views mean that nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from enum import StrEnum

from isthmus.model.envoy_filters import ConfigPatch
from isthmus.model.gateways import GatewayPort, ServerTls
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Hostname, Namespace, NetworkId
from isthmus.model.origins import Origin
from isthmus.model.proxy_config import GatewayTopology
from isthmus.model.routing import ConnectionRoute, Route
from isthmus.model.security import Authorization, MutualTlsMode
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.sidecars import Elsewhere, Placement
from isthmus.model.telemetry import Reporting
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.model.traffic import ConnectionPool, TrafficPolicy
from isthmus.model.trust import NOTHING_ASKED, OwnTrust
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint, Health


class ProxyKind(StrEnum):
    """`SIDECAR` is beside a workload; `ROUTER` is a gateway of any kind; `PROXYLESS` is a gRPC application that speaks xDS itself."""

    SIDECAR = "sidecar"
    ROUTER = "router"
    PROXYLESS = "proxyless"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Scope:
    """The facts about a proxy that its outbound configuration may depend on. Proxies that agree on them share it.

    `network_view` lists the only networks whose endpoints the proxy asked for; empty means all.
    `labels`: a router's are all here, because a Gateway selects by them; of a sidecar's those by which some rule chooses callers.
    """

    kind: ProxyKind
    cluster: ClusterId
    network: NetworkId
    namespace: Namespace
    locality: Locality
    network_view: tuple[NetworkId, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    ip_families: tuple[int, ...] = (4,)
    claims: tuple[tuple[str, str], ...] = ()
    """What the proxy says about itself, of that by which some rule chooses."""
    captures_names: bool = False
    """Whether its applications' questions for names are answered by this mesh."""
    trusts_in_one_bundle: bool = False
    """Whether its agent is one of Istio's: that knows the authorities of its own trust domain, and no other bundle."""
    topology: GatewayTopology | None = None
    """Of a gateway: what it says is in front of it."""
    node: str = ""
    """The Node that it runs on, where some service keeps callers on theirs; else empty, so that nodes share."""

    def __hash__(self) -> int:
        """By what tells most scopes apart: it is asked for more often than anything else."""
        return hash((self.cluster, self.namespace))


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Proxy:
    """A connected Envoy. `identity`, `cluster` and `namespace` were checked against its credentials."""

    id: str
    scope: Scope
    ips: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    service_account: str
    identity: SpiffeId | None
    dns_capture: bool
    claims: tuple[tuple[str, str], ...] = ()
    """Everything that it says about itself as text (node metadata)."""
    node: str = ""
    """The Node that its Pod runs on."""

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def cluster(self) -> ClusterId:
        return self.scope.cluster


@dataclass(frozen=True, slots=True, order=True)
class Direct:
    """Over the network that both share."""


@dataclass(frozen=True, slots=True, order=True)
class ThroughGateways:
    """Over another network's gateways, each of which passes the connection through by SNI."""

    gateways: tuple[NetworkGateway, ...]


class Reason(StrEnum):
    """Why an endpoint is left out. Values are stable: they appear in output."""

    NO_GATEWAY = "no_gateway"
    NO_USABLE_GATEWAY = "no_usable_gateway"
    NOT_MESHED = "not_meshed"
    MUTUAL_TLS_DISABLED = "mutual_tls_disabled"
    NOT_IN_SUBSET = "not_in_subset"
    NO_SHARE = "no_share"
    NO_ADDRESS = "no_address"
    CLUSTER_LOCAL = "cluster_local"
    NODE_LOCAL = "node_local"
    NOT_EXPORTED = "not_exported"
    NETWORK_NOT_REQUESTED = "network_not_requested"
    NO_SUCH_PORT = "no_such_port"
    NOT_READY = "not_ready"
    MIXED_TLS = "mixed_tls"
    TERMINATING = "terminating"
    CLUSTER_STALE = "cluster_stale"
    PEER_STALE = "peer_stale"


@dataclass(frozen=True, slots=True, order=True)
class Unreachable:
    """Not to be used, and why; `detail` is a sentence for people, with what would change it."""

    reason: Reason
    detail: str


Reach = Direct | ThroughGateways | Unreachable


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Destination:
    """One address as the proxy's Envoy load-balances over it: an endpoint, or a gateway with endpoints behind it.

    `stands_for` are the endpoints that it reaches (one, unless it is a gateway). `mutual_tls`: the proxy starts mutual TLS.
    """

    address: str
    port: int
    weight: int
    mutual_tls: bool
    health: Health
    cluster: ClusterId
    network: NetworkId
    through: NetworkGateway | None
    stands_for: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class LocalityGroup:
    """Destinations in one locality. `weight` is the sum of theirs; 0 is the most preferred `priority`."""

    locality: Locality
    priority: int
    weight: int
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Ways:
    """How destinations are reached, in short: whether some of them through gateways, and whether all direct ones start mutual TLS."""

    through_gateways: bool
    direct_are_meshed: bool

    @staticmethod
    def of(groups: Iterable[LocalityGroup]) -> Ways:
        destinations = [destination for group in groups for destination in group.destinations]
        direct = [destination for destination in destinations if destination.through is None]
        return Ways(
            through_gateways=len(direct) < len(destinations),
            direct_are_meshed=bool(direct) and all(destination.mutual_tls for destination in direct),
        )


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """An endpoint that this proxy does not get."""

    endpoint: Endpoint
    why: Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One service port as one proxy may use it (Envoy calls this a cluster).

    `groups` and `left_out` partition the endpoints of the service. `expected_identities` are those of every workload behind
    it. `virtual_ips` are the addresses that this proxy's applications resolve the service to.
    """

    service: Service
    port: ServicePort
    subset: str
    virtual_ips: tuple[str, ...]
    groups: tuple[LocalityGroup, ...]
    left_out: tuple[LeftOut, ...]
    ways: Ways
    expected_identities: tuple[SpiffeId, ...]
    policy: TrafficPolicy = field(default_factory=TrafficPolicy)
    rule: Origin | None = None
    """The DestinationRule that the policy and the subset are of."""
    patches: tuple[ConfigPatch, ...] = ()
    """EnvoyFilters' changes of Envoy's clusters, which may be of this one."""
    locality_weighted: bool = False
    """Whether places are weighed against each other, by the groups' weights."""
    judged_by_one_bundle: bool = False
    """Whether the proxy's agent has one bundle for all whom it meets (`Scope.trusts_in_one_bundle`)."""
    routes: tuple[Route, ...] = ()
    """Of requests to this service port, in the order in which they are tried; empty: all come here."""
    connections: tuple[ConnectionRoute, ...] = ()
    """The same of connections whose requests nobody looks at."""

    def outline(self) -> Upstream:
        """What it is called by: without what rules say of it, and without what is behind it but where applications connect to that."""
        return replace(
            self,
            left_out=(),
            ways=Ways(through_gateways=False, direct_are_meshed=False),
            locality_weighted=False,
            expected_identities=(),
            policy=TrafficPolicy(),
            rule=None,
            routes=(),
            connections=(),
        )

    @property
    def name(self) -> str:
        return upstream_name(self.port.number, self.subset, self.service.hostname)

    @property
    def sni(self) -> str:
        return sni_name(self.port.number, self.subset, self.service.hostname)


def upstream_name(port: int, subset: str, host: Hostname) -> str:
    """`outbound|80||helloworld.sample.svc.cluster.local`, as Istio names it."""
    return f"outbound|{port}|{subset}|{host}"


def sni_name(port: int, subset: str, host: Hostname) -> str:
    """`outbound_.80_._.helloworld.sample.svc.cluster.local`: what network gateways select by."""
    return f"outbound_.{port}_.{subset}_.{host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraHost:
    """A host that only a VirtualService knows, on a port: its requests have routes though no service has the name."""

    host: Hostname
    port: int
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class InboundPort:
    """A port on which the proxy's own workload answers. One for each target port; the lowest service port names it.

    `forward_to`: where connections go instead of where they were sent, an address and port or the path of a Unix domain socket.
    """

    target_port: int
    service_port: int
    port_name: str
    protocol: Protocol
    hostname: str
    tls: MutualTlsMode
    forward_to: tuple[str, int] | str | None = None
    tls_origin: Origin | None = None
    """The PeerAuthentication that says `tls`; None where none does."""
    own_tls: ServerTls | None = None
    """TLS that the proxy ends for callers beyond the mesh, where mutual TLS of the mesh is off."""
    pool: ConnectionPool | None = None
    bound_to: str = ""
    """The address at which the proxy listens itself; empty where connections are captured."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class NameRecord:
    """What a host name resolves to for this proxy. `registry` is `Kubernetes` or `External`, as Istio's name table has it."""

    host: str
    ips: tuple[str, ...]
    registry: str
    short_name: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundView:
    """What every proxy of one scope shares. `exposed` is what a network gateway passes through, by SNI, and on which port."""

    scope: Scope
    trust_domain: TrustDomain
    dns_domain: str
    upstreams: tuple[Upstream, ...]
    names: tuple[NameRecord, ...]
    exposed: tuple[tuple[int, Upstream], ...]
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    placement: Placement = field(default_factory=Placement)
    peer_authorities: tuple[tuple[TrustDomain, tuple[bytes, ...]], ...] = ()
    """Who vouches for identities of other trust domains (DER), each for its own alone."""
    own_trust: OwnTrust = NOTHING_ASKED
    extra_hosts: tuple[ExtraHost, ...] = ()
    gateway_ports: tuple[GatewayPort, ...] = ()
    """Of an ingress gateway; and what it asks before it lets requests in."""
    topology: GatewayTopology = field(default_factory=GatewayTopology)
    """Of a gateway: what stands before it."""
    authorization: Authorization = field(default_factory=Authorization)
    reporting: Reporting = field(default_factory=Reporting)
    """What is logged and traced of what goes out."""
    patches: tuple[ConfigPatch, ...] = ()
    """Of EnvoyFilters, in the order in which they are applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundView:
    """What a proxy lets in to its own workload. `tls` holds for ports that no service declares, but for those in `other_ports`."""

    ports: tuple[InboundPort, ...] = ()
    tls: MutualTlsMode = MutualTlsMode.PERMISSIVE
    tls_origin: Origin | None = None
    other_ports: tuple[tuple[int, MutualTlsMode], ...] = ()
    addresses: tuple[str, ...] = ()
    """Of the workload itself, where it is the one that listens (gRPC without a proxy)."""
    authorization: Authorization = field(default_factory=Authorization)
    reporting: Reporting = field(default_factory=Reporting)
    patches: tuple[ConfigPatch, ...] = ()
    ip_families: tuple[int, ...] = (4,)
    cut: str = ""
    """Connections of callers that were opened while this was another text are ended."""
    judges_by_one_bundle: bool = False
    """Whether the proxy's agent has one bundle for all whom it meets (`Scope.trusts_in_one_bundle`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that one proxy is to know."""

    proxy: Proxy
    outbound: OutboundView
    inbound: InboundView
