"""Snapshot: everything one control plane knows at one moment.

Immutable; no credentials, no clock, no wire types. The reference meaning of every incremental computation is
`view_for(proxy, snapshot)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property

from isthmus.model.attachments import Attachments
from isthmus.model.bundles import BundleEndpoint
from isthmus.model.envoy_filters import EnvoyFilter
from isthmus.model.federation import ClosedPeer, Guests, HeardPeer, MeshPeer
from isthmus.model.gateways import Server
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue
from isthmus.model.lookups import ByHost, grouped
from isthmus.model.names import ClusterId, Hostname, MeshId, Namespace, NetworkId, ServiceKey
from isthmus.model.proxy_config import NOTHING_SAID, ProxyConfig, ProxyConfigRule, ProxyConfigs
from isthmus.model.quotas import QuotaUse
from isthmus.model.routing import Retries, VirtualService
from isthmus.model.security import (
    AuthorizationPolicy,
    AuthorizationProvider,
    KeySource,
    PathNormalization,
    PeerAuthentication,
    RequestAuthentication,
)
from isthmus.model.selectors import LabelSelector
from isthmus.model.services import Service
from isthmus.model.sidecars import Sidecar
from isthmus.model.telemetry import Telemetry, TelemetryDefaults
from isthmus.model.topology import Cluster, MeshNetworks, NetworkGateway
from isthmus.model.traffic import DestinationRule, LocalityPreference, TrafficPolicy, Wishes
from isthmus.model.trust import NOTHING_ASKED, OwnTrust
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint

ClusterAddress = tuple[ClusterId, str]
"""An IP address in a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSet:
    """How far the Multi-Cluster Services API (KEP-1645) holds beside namespace sameness. Istio's feature switches.

    `exports`: endpoints leave their cluster only where it has a ServiceExport. `hosts`: ServiceImports give services a name of the
    cluster set. `own_cluster_names`: the other name, of `cluster.local`, then means the caller's own cluster alone.
    """

    exports: bool = False
    hosts: bool = False
    own_cluster_names: bool = False
    domain: str = "clusterset.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalNames:
    """Names that follow workloads, whatever cluster or namespace they are in: `ENVIRONMENT.IDENTITY.suffix`, of Deployments whose Pods have the
    identity's label. Without a suffix there are none.
    """

    suffix: str = ""
    identity_label: str = "identity"
    environment_label: str = "env"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """What holds for the whole mesh.

    `revision` of the control plane: rules that are labelled for another one are not its own; empty takes all.
    `unreachable_networks_direct`: send another network's endpoints by their own address when that network has no gateway,
    as Istio does; off, they are left out with a reason. `cluster_local` are host
    patterns and whether they stay in their cluster; the most specific one counts. `registry_only`: what no service is, is not passed
    through. `…_export_to` hold for objects that do not say it themselves.
    """

    mesh: MeshId
    trust_domain: TrustDomain
    dns_domain: str = "cluster.local"
    root_namespace: Namespace = Namespace("istio-system")
    revision: str = ""
    trust_domain_aliases: tuple[TrustDomain, ...] = ()
    peer_trust_domains: tuple[TrustDomain, ...] = ()
    """Others, for whose identities there are authorities: MeshConfig's `caCertificates`, and imported bundles. They may connect; policies
    say what they may do."""
    peer_authorities: tuple[tuple[TrustDomain, tuple[bytes, ...]], ...] = ()
    """Who vouches for them (DER), each for its own trust domain alone. Sorted."""
    bundle_endpoints: tuple[BundleEndpoint, ...] = ()
    """Where some of them publish who does."""
    imported_authorities: tuple[tuple[TrustDomain, tuple[bytes, ...]], ...] = ()
    """`peer_authorities` as they were handed over, before anything was fetched."""
    own_trust: OwnTrust = NOTHING_ASKED
    policies_mean_any_trust_domain: bool = False
    """Whether `namespaces` and `serviceAccounts` of policies mean those of every trust domain, as in Istio, not the mesh's own alone."""
    key_source: KeySource = KeySource.HYBRID
    """Who fetches the keys that tokens are checked with."""
    locality: LocalityPreference = field(default_factory=LocalityPreference)
    wishes: Wishes = field(default_factory=Wishes)
    traffic_policy: TrafficPolicy = field(default_factory=TrafficPolicy)
    """Of every destination, where its own rules are silent."""
    retries: Retries | None = None
    """For requests that no rule says retries for; None is our own default."""
    networks: MeshNetworks = field(default_factory=MeshNetworks)
    providers: tuple[AuthorizationProvider, ...] = ()
    telemetry: TelemetryDefaults = field(default_factory=TelemetryDefaults)
    proxy_config: ProxyConfig = NOTHING_SAID
    """How proxies are run where nobody says it of fewer of them."""
    merges_metrics: bool = True
    """Whether agents answer for workloads' metrics, too."""
    registry_only: bool = False
    paths: PathNormalization = PathNormalization.BASE
    discovery: tuple[LabelSelector, ...] = ()
    """Which namespaces the mesh knows of, those that any of them selects; all, if there is none."""
    service_export_to: tuple[str, ...] = ()
    virtual_service_export_to: tuple[str, ...] = ()
    destination_rule_export_to: tuple[str, ...] = ()
    cluster_set: ClusterSet = field(default_factory=ClusterSet)
    global_names: GlobalNames = field(default_factory=GlobalNames)
    unreachable_networks_direct: bool = False
    cluster_local: tuple[tuple[str, bool], ...] = (
        ("*.kube-system.svc.cluster.local", True),
        ("kubernetes.default.svc.cluster.local", True),
        ("istiod.istio-system.svc.cluster.local", True),
    )


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Exposure:
    """Hosts that a network gateway passes through by SNI (a Gateway server with TLS mode AUTO_PASSTHROUGH).

    `selector` are the labels of the gateway's proxies, sorted, `within` their namespace (empty: any). `hosts` are as written: `*.local`,
    `ns/host`, ….
    """

    namespace: Namespace
    name: str
    selector: tuple[tuple[str, str], ...]
    port: int
    hosts: tuple[str, ...]
    within: Namespace = Namespace("")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole mesh at one moment. Mappings are read-only; tuples are sorted. What is asked for by a part of it has a lookup."""

    settings: MeshSettings
    clusters: Mapping[ClusterId, Cluster]
    gateways: Mapping[NetworkId, tuple[NetworkGateway, ...]]
    services: Mapping[ServiceKey, Service]
    endpoints: Mapping[ServiceKey, tuple[Endpoint, ...]]
    exposures: tuple[Exposure, ...]
    servers: tuple[Server, ...] = ()
    peer_authentications: tuple[PeerAuthentication, ...] = ()
    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    request_authentications: tuple[RequestAuthentication, ...] = ()
    key_addresses: tuple[str, ...] = ()
    """Where the control plane is to fetch keys of tokens, sorted."""
    destination_rules: tuple[DestinationRule, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    sidecars: tuple[Sidecar, ...] = ()
    envoy_filters: tuple[EnvoyFilter, ...] = ()
    telemetries: tuple[Telemetry, ...] = ()
    proxy_config_rules: tuple[ProxyConfigRule, ...] = ()
    claim_keys: frozenset[str] = frozenset()
    """The same of what proxies say about themselves."""
    selector_keys: frozenset[str] = frozenset()
    """Labels by which rules choose callers. Of a sidecar's labels no others matter to what it calls."""
    some_stay_on_node: bool = False
    """Whether it matters to any service on which Node a caller runs."""
    attachments: Attachments = field(default_factory=Attachments)
    mesh_peers: tuple[MeshPeer, ...] = ()
    closed_peers: tuple[ClosedPeer, ...] = ()
    heard: Mapping[MeshId, HeardPeer] = field(default_factory=dict)
    """What other meshes have told, as far as any has."""
    foreign_gateways: Mapping[NetworkId, tuple[NetworkGateway, ...]] = field(default_factory=dict)
    """Where networks of other meshes are entered."""
    peer_gateways: tuple[NetworkGateway, ...] = ()
    """Where other meshes enter this one."""
    guests: Mapping[ServiceKey, tuple[Guests, ...]] = field(default_factory=dict)
    """Who of other meshes may call a service of this one; nobody else of theirs may."""
    quotas: tuple[QuotaUse, ...] = ()
    """What namespaces use of the rules that they may have."""
    service_quotas: tuple[QuotaUse, ...] = ()
    """And of the services that others may see."""
    issues: tuple[Issue, ...] = ()

    @property
    def proxy_configs(self) -> ProxyConfigs:
        """All that is said of how proxies are run."""
        settings = self.settings
        return ProxyConfigs(
            default=settings.proxy_config,
            rules=self.proxy_config_rules,
            root_namespace=settings.root_namespace,
            merges_metrics=settings.merges_metrics,
        )

    @cached_property
    def keys_by_host(self) -> Mapping[Hostname, tuple[ServiceKey, ...]]:
        """Services by host: one, but for ServiceEntries of several namespaces."""
        return grouped(self.services, under=lambda key: (key.hostname,))

    @cached_property
    def keys_by_address(self) -> Mapping[ClusterAddress, tuple[ServiceKey, ...]]:
        """Services that have an endpoint at an address in a cluster."""
        return grouped(self.endpoints, under=lambda key: addresses_of(self.endpoints[key]))

    @cached_property
    def keys_by_place(self) -> Mapping[tuple[ClusterId, Namespace], tuple[ServiceKey, ...]]:
        """Services that have an endpoint in a namespace of a cluster."""
        return grouped(self.endpoints, under=lambda key: places_of(self.endpoints[key]))

    @cached_property
    def rules_by_host(self) -> Mapping[Hostname, tuple[DestinationRule, ...]]:
        """DestinationRules that cover a host."""
        return ByHost(self.destination_rules, lambda rule: (rule.host,))

    @cached_property
    def virtual_services_by_host(self) -> Mapping[Hostname, tuple[VirtualService, ...]]:
        """VirtualServices that cover a host."""
        return ByHost(self.virtual_services, lambda rule: rule.hosts)

    @cached_property
    def peer_authentications_by_namespace(self) -> Mapping[Namespace, tuple[PeerAuthentication, ...]]:
        return grouped(self.peer_authentications, under=lambda rule: (rule.namespace,))

    @cached_property
    def authorization_policies_by_namespace(self) -> Mapping[Namespace, tuple[AuthorizationPolicy, ...]]:
        return grouped(self.authorization_policies, under=lambda policy: (policy.namespace,))

    @cached_property
    def request_authentications_by_namespace(self) -> Mapping[Namespace, tuple[RequestAuthentication, ...]]:
        return grouped(self.request_authentications, under=lambda rule: (rule.namespace,))


def addresses_of(endpoints: Iterable[Endpoint]) -> frozenset[ClusterAddress]:
    """Where the endpoints are. An address means nothing without its cluster; its network is the endpoint's to say."""
    return frozenset((endpoint.cluster, endpoint.ip) for endpoint in endpoints)


def places_of(endpoints: Iterable[Endpoint]) -> frozenset[tuple[ClusterId, Namespace]]:
    """In which namespaces of which clusters the endpoints' workloads are."""
    return frozenset((endpoint.cluster, endpoint.workload.namespace) for endpoint in endpoints)
