"""Transcripts: a mesh in a few lines, then what each client is to know of its one service. Read them first."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from two_meshes import SHOP, Meshes, export, imported, meshes, peer

from isthmus.discovery.view import outbound_view
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Hostname, MeshId, Namespace, NetworkId, ServiceKey
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import Cluster, ImportState, Locality, NetworkGateway, Standing
from isthmus.model.views import ProxyKind, Scope, Upstream
from isthmus.model.workloads import Endpoint, Health, Workload

TRUST_DOMAIN = TrustDomain("cluster.local")
KEY = ServiceKey(Namespace("ns"), Hostname("s.ns.svc.cluster.local"))


@dataclass
class Mesh:
    """One service, its endpoints, and the gateways between networks."""

    gateways: list[NetworkGateway] = field(default_factory=list)
    endpoints: list[Endpoint] = field(default_factory=list)
    cluster_local: bool = False
    direct: bool = False
    standings: dict[str, Standing] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        by_network: dict[NetworkId, list[NetworkGateway]] = {}
        for gateway in sorted(self.gateways):
            by_network.setdefault(gateway.network, []).append(gateway)
        service = Service(
            namespace=KEY.namespace,
            hostname=KEY.hostname,
            name="s",
            ports=(ServicePort(number=80, name="http", protocol=Protocol.HTTP),),
            virtual_ips=((ClusterId("c1"), ("10.96.0.1",)),),
            headless=False,
            cluster_local=self.cluster_local,
            declared_in=(ClusterId("c1"),),
        )
        return Snapshot(
            settings=MeshSettings(mesh=MeshId("m"), trust_domain=TRUST_DOMAIN, unreachable_networks_direct=self.direct),
            clusters=MappingProxyType({ClusterId(name): stale(name, how) for name, how in self.standings.items()}),
            gateways=MappingProxyType({network: tuple(found) for network, found in by_network.items()}),
            services=MappingProxyType({KEY: service}),
            endpoints=MappingProxyType({KEY: tuple(sorted(self.endpoints))}),
            exposures=(),
            issues=(),
        )

    def upstream(self, scope: Scope) -> Upstream:
        [upstream] = outbound_view(scope, self.snapshot()).upstreams
        return upstream


def stale(cluster: str, standing: Standing) -> Cluster:
    return Cluster(
        id=ClusterId(cluster),
        network=NetworkId(""),
        is_config_cluster=False,
        state=ImportState.STALE,
        stale_since="2026-01-01T00:00:00+00:00",
        standing=standing,
    )


def gateway(network: str, cluster: str, address: str) -> NetworkGateway:
    return NetworkGateway(address=address, port=15443, network=NetworkId(network), cluster=ClusterId(cluster))


def endpoint(ip: str, network: str, cluster: str, *words: str) -> Endpoint:
    """Words: bare, unready, terminating, at=REGION/ZONE, port=NAME."""
    said: dict[str, str] = dict(word.partition("=")[::2] for word in words)  # type: ignore[misc]
    health = Health.UNHEALTHY if "unready" in said else Health.TERMINATING if "terminating" in said else Health.HEALTHY
    return Endpoint(
        service=KEY,
        ip=ip,
        ports=((said.get("port", "http"), 8080),),
        workload=Workload(
            cluster=ClusterId(cluster),
            namespace=KEY.namespace,
            name=f"pod-{ip}",
            network=NetworkId("" if network == "-" else network),
            ips=(ip,),
            labels=(),
            locality=Locality.parse(said["at"]) if "at" in said else Locality(),
            node="",
            identity=SpiffeId.of_service_account(TRUST_DOMAIN, KEY.namespace, "default"),
            meshed="bare" not in said,
        ),
        health=health,
    )


def scope(network: str, cluster: str, *words: str) -> Scope:
    """Words: view=NETWORK,…"""
    said: dict[str, str] = dict(word.partition("=")[::2] for word in words)  # type: ignore[misc]
    return Scope(
        kind=ProxyKind.SIDECAR,
        cluster=ClusterId(cluster),
        network=NetworkId("" if network == "-" else network),
        namespace=Namespace("ns"),
        locality=Locality(),
        network_view=tuple(map(NetworkId, said["view"].split(","))) if "view" in said else (),
        labels=(),
        ip_families=(4,),
    )


def transcript(upstream: Upstream) -> list[str]:
    """What a client knows, a line for each destination and for each endpoint that is left out."""
    lines = []
    for group in upstream.groups:
        place = f", at {group.locality}" if str(group.locality) else ""
        for to in group.destinations:
            ips = " ".join(found.ip for found in to.stands_for)
            way = f"gateway of {to.through.network}, for {ips}" if to.through else "direct"
            last = f", priority {group.priority}" if group.priority else ""
            plain = "" if to.mutual_tls else ", plaintext"
            lines.append(f"{to.address}:{to.port} {to.weight} {way}{plain}{place}{last}")
    lines += [f"{left.endpoint.ip} - {left.why.reason.value}" for left in upstream.left_out]
    return lines


@pytest.fixture
def words() -> Any:
    return SimpleNamespace(Mesh=Mesh, gateway=gateway, endpoint=endpoint, scope=scope, transcript=transcript, KEY=KEY)


@pytest.fixture
def federated() -> Meshes:
    """mesh-b exports hello to mesh-a's client; mesh-a imports it for its namespace sample."""
    found = meshes(objects=SHOP)
    found["b"].objects.append(peer("a", exports={"services": [export("sample/hello", "sample/client")]}))
    found["a"].objects.append(
        peer("b", imports={"services": [imported("sample/hello", "sample")]}, exports={"identities": ["sample/*"]})
    )
    return found.talk()
