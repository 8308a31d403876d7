"""Where things are: clusters, networks, gateways between them, localities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.model.names import ClusterId, NetworkId


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
    """An address at which a network's gateway passes TLS through by SNI. Ordered by address and port.

    `cluster` is empty when the gateway was configured for a network rather than found in a cluster.
    """

    address: str
    port: int
    network: NetworkId
    cluster: ClusterId

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


class ImportState(StrEnum):
    """How far a cluster's objects can be believed."""

    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"
    GONE = "gone"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Cluster:
    """One cluster as this control plane knows it.

    `network` is the default of its workloads. `stale_since` is an RFC 3339 time and empty unless STALE.
    """

    id: ClusterId
    network: NetworkId
    is_config_cluster: bool
    state: ImportState
    stale_since: str = ""
