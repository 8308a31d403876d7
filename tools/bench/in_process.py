"""The core of the control plane in this process, without its edges: the mesh of a workload, read, and what its proxies are given."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import msgspec

from bench import workloads
from bench.workloads import Workload, cluster_of
from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.tables import Tables
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.envoy.resources import Changes
from isthmus.ingest.proxies import proxy_of
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import ImportState, Locality
from isthmus.model.views import Proxy


class Mesh:
    """The objects of every cluster, decoded, and what may happen to them."""

    def __init__(self, workload: Workload) -> None:
        settings = MeshSettings(
            mesh=MeshId("mesh1"), trust_domain=TrustDomain("cluster.local"), root_namespace=Namespace(workloads.SYSTEM)
        )
        self.world = World(settings, ClusterId(cluster_of(0)))
        for cluster in range(workload.clusters):
            imported = ImportedCluster()
            imported.state = ImportState.LIVE
            for body in (*workloads.namespaces(workload, cluster), *workloads.objects(workload, cluster)):
                if body["kind"] in KINDS:
                    metadata = body["metadata"]
                    name = (metadata.get("namespace", ""), metadata["name"])
                    imported.objects.setdefault(body["kind"], {})[name] = decode(KINDS[body["kind"]], body)
            self.world.put(ClusterId(cluster_of(cluster)), imported)
        self.workload = workload
        self.changed = workloads.service_of(workload, 0)
        here = [p for p in workloads.places(workload) if p.service == self.changed[1] and p.cluster == 0]
        self.slices = [
            msgspec.json.encode(workloads.endpoint_slice(*self.changed, here, more=more)) for more in ("", "192.0.2.1")
        ]
        self._number = 0

    def snapshot(self) -> Snapshot:
        return self.world.snapshot()

    def service_comes_or_goes(self) -> None:
        """One that is in the first cluster alone, and has no endpoints."""
        name = (self.changed[0], "new")
        known = self.world.clusters[ClusterId(cluster_of(0))].objects["Service"].get(name)
        self.put(0, "Service", name, decode(KINDS["Service"], workloads.service(*name)) if known is None else None)

    def endpoint_comes_or_goes(self) -> None:
        self._number += 1
        name = (self.changed[0], f"{self.changed[1]}-1")
        self.put(0, "EndpointSlice", name, decode(KINDS["EndpointSlice"], self.slices[self._number % 2]))

    def gateway_moves(self) -> None:
        """That of the last network."""
        self._number += 1
        cluster = self.workload.clusters - 1
        body = workloads.gateway(cluster, f"198.51.100.{100 + self._number % 100}")
        self.put(cluster, "Service", (workloads.SYSTEM, body["metadata"]["name"]), decode(KINDS["Service"], body))

    def route_changes(self) -> None:
        """A VirtualService sets another header."""
        self._number += 1
        body = workloads.virtual_service(self.workload, 0, str(self._number + 1))
        self.put(0, "VirtualService", self.changed, decode(KINDS["VirtualService"], body))

    def policy_changes(self) -> None:
        """A DestinationRule names its subset otherwise."""
        self._number += 1
        body = workloads.destination_rule(self.workload, 0, f"v1-{self._number}")
        self.put(0, "DestinationRule", self.changed, decode(KINDS["DestinationRule"], body))

    def put(self, cluster: int, kind: str, name: tuple[str, str], decoded: Any) -> None:
        imported = self.world.clusters[ClusterId(cluster_of(cluster))]
        if decoded is None:
            del imported.objects[kind][name]
        else:
            imported.objects[kind][name] = decoded
        self.world.touched(imported, KINDS[kind].key, [name])


def proxies(workload: Workload) -> Iterator[Proxy]:
    for place in workloads.places(workload):
        if place.number >= workload.proxies:
            return
        metadata = {
            "CLUSTER_ID": cluster_of(place.cluster),
            "NETWORK": workloads.network_of(place.cluster),
            "NAMESPACE": place.namespace,
            "SERVICE_ACCOUNT": "default",
            "LABELS": place.labels,
            "INSTANCE_IPS": place.ip,
        }
        node = f"sidecar~{place.ip}~{place.name}.{place.namespace}~{place.namespace}.svc.cluster.local"
        yield proxy_of(node, metadata, Locality("region", f"zone-{place.number % 3}", ""), None)


def tables_of(mesh: Mesh) -> Tables:
    """With all proxies of the workload connected."""
    tables = Tables()
    tables.learn(mesh.snapshot())
    for proxy in proxies(mesh.workload):
        tables.connect(proxy)
    settle(tables)
    gc.freeze()  # As the control plane does.
    return tables


def settle(tables: Tables) -> dict[Proxy, Changes]:
    for _ in tables.settling():
        pass
    return tables.changed()


def learn_and_settle(mesh: Mesh, tables: Tables) -> dict[Proxy, Changes]:
    """From the object that has changed to the names that each proxy is to be told."""
    reading = mesh.world.reading()
    tables.learn(reading.snapshot, reading.patch)
    return settle(tables)
