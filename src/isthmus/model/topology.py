"""Where things are: clusters, networks, gateways between them, localities."""

from __future__ import annotations

import ipaddress
from enum import StrEnum

from isthmus.model.names import ClusterId, Hostname, NetworkId
from isthmus.model.values import dataclass

IpRange = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, order=True)
class Locality:
    """Region, zone and subzone of a node; trailing parts may be empty."""

    region: str = ""
    zone: str = ""
    subzone: str = ""

    @staticmethod
    def parse(text: str) -> Locality:
        """From `region/zone/subzone`; the legacy '.' separator is accepted where there is no slash."""
        parts = (text if "/" in text else text.replace(".", "/")).split("/", 2)
        return Locality(*parts)

    def __str__(self) -> str:
        return "/".join((self.region, self.zone, self.subzone)).rstrip("/")


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class NetworkGateway:
    """An address at which a network's gateway passes TLS through by SNI. Ordered by address and port. In a Snapshot it is an IP address.

    `cluster` is empty when the gateway was configured for a network rather than found in a cluster.
    """

    address: str
    port: int
    network: NetworkId
    cluster: ClusterId

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedName:
    """What name servers said of a gateway's host name. `error` is why they say nothing now; addresses of before hold meanwhile."""

    addresses: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayService:
    """A Service that stands for the gateway of a network because Istio's MeshNetworks names it (`registryServiceName`)."""

    hostname: Hostname
    network: NetworkId
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshNetworks:
    """Istio's MeshNetworks: which clusters and addresses are on which network, and where a network is entered.

    `ranges` are as written, the first that holds an address counts. `gateways` have no cluster.
    """

    clusters: tuple[tuple[ClusterId, NetworkId], ...] = ()
    ranges: tuple[tuple[IpRange, NetworkId], ...] = ()
    gateways: tuple[NetworkGateway, ...] = ()
    gateway_services: tuple[GatewayService, ...] = ()

    def of_cluster(self, cluster: ClusterId) -> NetworkId:
        """The network that the cluster's workloads are said to be on; empty where nothing is said."""
        return dict(self.clusters).get(cluster, NetworkId(""))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNetwork:
    """Which network the workloads of one cluster are on, where they do not say so themselves.

    `default` is that of all of them; where it is empty, `ranges` tell it by address.
    """

    default: NetworkId
    ranges: tuple[tuple[IpRange, NetworkId], ...] = ()

    def of(self, ip: str) -> NetworkId:
        """The network of an address; empty where it is not known."""
        if self.default or not self.ranges:
            return self.default
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return self.default
        return next((network for within, network in self.ranges if address in within), self.default)


class ImportState(StrEnum):
    """How far a cluster's objects can be believed."""

    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"
    GONE = "gone"


class Standing(StrEnum):
    """What a cluster's endpoints count for the proxies of other clusters."""

    FULL = "full"
    DEMOTED = "demoted"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Cluster:
    """One cluster as this control plane knows it.

    `network` is the default of its workloads. `stale_since` is an RFC 3339 time and empty unless STALE; `standing` is what the mesh's
    policy makes of its age.
    """

    id: ClusterId
    network: NetworkId
    is_config_cluster: bool
    state: ImportState
    stale_since: str = ""
    standing: Standing = Standing.FULL
    share: int = 100
    """Percent of its traffic that it keeps while it is drained; at 0 its endpoints come after all others, for its own proxies, too."""
