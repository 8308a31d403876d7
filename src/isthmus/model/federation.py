"""Federation: what two meshes let each other have. Deny by default: what no export names, nobody learns of; what no import names, nobody sees.

A service of another mesh is known by its mesh name, `NAME.NAMESPACE.MESH.mesh`, and never merged with one of the same name and namespace
here. What a peer says is believed about its own mesh alone.
"""

from __future__ import annotations

import re
from dataclasses import field

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Hostname, MeshId, Namespace, NetworkId
from isthmus.model.services import Service, ServicePort
from isthmus.model.topology import ImportState, Locality, NetworkGateway, Standing
from isthmus.model.values import dataclass

ALL = "*"
PLACE_WEIGHT_MAX = 1 << 20
"""What a place may weigh: its endpoints together."""
_NAME_MAX = 253
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ACCOUNT = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


def is_label(text: str) -> bool:
    """Whether it can be one part of a DNS name: as mesh ids have to be, which are parts of mesh names."""
    return _LABEL.fullmatch(text) is not None


def is_dns_name(text: str) -> bool:
    """Whether callers can ask for it: labels with dots between them."""
    return len(text) <= _NAME_MAX and all(map(is_label, text.split(".")))


def is_exportable(service: Service) -> bool:
    """Whether exports can name it: declared by a Service, and under its first name."""
    first = f"{service.name}.{service.namespace}.svc."
    return service.registry == "Kubernetes" and service.hostname.startswith(first) and not service.pod_of


def kept_at_home(service: Service, exported_by_default: tuple[str, ...]) -> str:
    """Why no other mesh may have it, whatever is exported; empty for nothing."""
    if service.headless:
        return "it is headless: its callers choose Pods by addresses, which mean nothing elsewhere"
    if service.cluster_local:
        return "it is local to each cluster"
    if "~" in (service.export_to or exported_by_default):
        return "its exportTo hides it from everybody"
    return ""


def domain_of(mesh: MeshId) -> str:
    """What all mesh names of the mesh's services end with. It stands for the mesh also where a cluster's id is expected."""
    return f"{mesh}.mesh"


def mesh_name(name: str, namespace: str, mesh: MeshId) -> Hostname:
    """A service's name in every mesh that may know of it, its own included."""
    return Hostname(f"{name}.{namespace}.{domain_of(mesh)}")


def foreign_namespace(namespace: str, mesh: MeshId) -> Namespace:
    """Where a foreign service is. No namespace of a cluster has a dot, so no rule of a local namespace of that name means it."""
    return Namespace(f"{namespace}.{domain_of(mesh)}")


def foreign_network(network: NetworkId, mesh: MeshId) -> NetworkId:
    """A network of another mesh. No label can have a slash."""
    return NetworkId(f"{domain_of(mesh)}/{network}")


def foreign_cluster(mesh: MeshId) -> ClusterId:
    """Stands for all clusters of another mesh, of which nothing is told."""
    return ClusterId(domain_of(mesh))


@dataclass(frozen=True, slots=True, order=True)
class Identities:
    """Service accounts of one mesh: one of them, all of a namespace, or all."""

    namespace: str
    account: str

    @staticmethod
    def parse(text: str) -> Identities:
        """From `NAMESPACE/ACCOUNT`, `NAMESPACE/*` or `*`. Raises ValueError."""
        if text == ALL:
            return Identities(ALL, ALL)
        namespace, _, account = text.partition("/")
        if not is_label(namespace) or not (account == ALL or _ACCOUNT.fullmatch(account)):
            raise ValueError(f"{text!r} is not NAMESPACE/ACCOUNT, NAMESPACE/* or *")
        return Identities(namespace, account)

    def shared(self, other: Identities) -> Identities | None:
        """Those that are among both; None if there are none."""
        namespace, account = _shared(self.namespace, other.namespace), _shared(self.account, other.account)
        return Identities(namespace, account) if namespace and account else None

    def of(self, trust_domain: TrustDomain) -> str:
        """As SPIFFE IDs: one, or what they begin with and then `*`."""
        if self.namespace == ALL:
            return f"spiffe://{trust_domain}/{ALL}"
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.account}"

    def __str__(self) -> str:
        return ALL if self.namespace == ALL else f"{self.namespace}/{self.account}"


def _shared(one: str, other: str) -> str:
    if ALL in (one, other):
        return other if one == ALL else one
    return one if one == other else ""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Export:
    """A service that a peer may know of (`name` may be `*`: all of the namespace), and which of the peer's identities may call it."""

    namespace: Namespace
    name: str
    callers: tuple[Identities, ...]

    def means(self, service: Service) -> bool:
        """Whether it names the service, of those that are exportable."""
        return service.namespace == self.namespace and self.name in (ALL, service.name)


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Import:
    """A service of the peer (`name` may be `*`), and the namespaces here that may know of it (`*` for all)."""

    namespace: Namespace
    name: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class MeshPeer:
    """Another mesh, as the object of that name describes it. `identity` is that of its control planes.

    `gateways` are those that are used in place of what the peer says; their network is the peer's, empty for all of them. `identities` are
    ours whose calls the peer is told to expect.
    """

    created: str
    name: str
    mesh: MeshId
    trust_domain: TrustDomain
    identity: SpiffeId
    control_planes: tuple[str, ...] = ()
    gateways: tuple[NetworkGateway, ...] = ()
    exports: tuple[Export, ...] = ()
    identities: tuple[Identities, ...] = ()
    imports: tuple[Import, ...] = ()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ClosedPeer:
    """A MeshPeer that is left out, though it says whose identities it is about: nobody of that trust domain is let in."""

    name: str
    trust_domain: TrustDomain


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Place:
    """Some endpoints of an offered service, without their addresses: behind which network's gateways, where, who, and how many."""

    network: NetworkId
    locality: Locality
    identity: SpiffeId
    weight: int


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class OfferedService:
    """A service that one mesh lets another know of."""

    namespace: Namespace
    name: str
    ports: tuple[ServicePort, ...]
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """All that one mesh tells another. `gateways` have the network's id that `places` have; `identities` are those that may call."""

    services: tuple[OfferedService, ...] = ()
    gateways: tuple[NetworkGateway, ...] = ()
    identities: tuple[Identities, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardPeer:
    """What a peer has told, and how old that is. `stale_since` is an RFC 3339 time, and empty unless STALE."""

    state: ImportState
    offers: Offers = field(default_factory=Offers)
    stale_since: str = ""
    standing: Standing = Standing.FULL


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Guests:
    """Who of another mesh may call a service: whom its export names, as far as the peer says that they may call."""

    mesh: MeshId
    trust_domain: TrustDomain
    callers: tuple[Identities, ...]
