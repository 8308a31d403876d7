"""A mesh that is small enough to count what runs in it, and the tables that are kept of it."""

from __future__ import annotations

from typing import Any

from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import scenario_of
from isthmus.controlplane.tables import Tables
from isthmus.incremental.describe import summaries

CLUSTERS = ("east", "west")
Object = dict[str, Any]


def obj(
    kind: str, name: str, namespace: str = "shop", version: str = "v1", labels: Object | None = None, **rest: Any
) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def of_service(cluster: int, number: int, namespace: str) -> list[Object]:
    name, ip = f"s{number}", f"10.{cluster}.{number}.1"
    pod = obj("Pod", f"{name}-0", namespace, labels={"app": name, "security.istio.io/tlsMode": "istio"})
    target = {"kind": "Pod", "name": f"{name}-0", "namespace": namespace}
    return [
        obj("Service", name, namespace, spec={"clusterIP": f"10.9{cluster}.{number}.1", "ports": [{"name": "http", "port": 80}]}),
        pod | {"spec": {"serviceAccountName": name}, "status": {"podIP": ip, "phase": "Running"}},
        obj(
            "EndpointSlice", f"{name}-x", namespace, "discovery.k8s.io/v1", {"kubernetes.io/service-name": name},
            addressType="IPv4", ports=[{"name": "http", "port": 8080}],
            endpoints=[{"addresses": [ip], "conditions": {"ready": True}, "targetRef": target}],
        ),
    ]  # fmt: skip


class Mesh:
    """Two clusters on two networks with services s1, s2, …, in the namespaces shop and till by turns; one sidecar of each namespace in each."""

    def __init__(self, services: int) -> None:
        self.clusters = [{"id": each, "objects": self._objects(at, services)} for at, each in enumerate(CLUSTERS)]
        rule = {
            "host": "s1.shop.svc.cluster.local",
            "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}},
        }
        self.put(0, obj("DestinationRule", "s1", version="networking.istio.io/v1", spec=rule))
        self.put(0, self.virtual_service(seconds=1))
        self.kept = Tables()
        whole = scenario_of(self.document)
        self.proxies = [
            proxy_in(whole, node_of(whole, f"sidecar/s{number}-0.{namespace}", cluster))
            for cluster in CLUSTERS
            for number, namespace in ((1, "shop"), (2, "till"))
        ]
        for proxy in self.proxies:
            self.kept.connect(proxy)
        self.settle()

    @property
    def document(self) -> Object:
        return {"kind": "Scenario", "configCluster": "east", "clusters": self.clusters}

    @staticmethod
    def _objects(cluster: int, services: int) -> list[Object]:
        network = {"topology.istio.io/network": f"n{cluster}"}
        gateway = {"type": "LoadBalancer", "clusterIP": "10.255.0.1", "ports": [{"name": "tls", "port": 15443}]}
        found = [
            obj("Namespace", "istio-system", "", labels=network),
            obj("Service", "gw", "istio-system", labels=network, spec=gateway)
            | {"status": {"loadBalancer": {"ingress": [{"ip": f"172.30.{cluster}.1"}]}}},
        ]
        for number in range(1, services + 1):
            found += of_service(cluster, number, "shop" if number % 2 else "till")
        return found

    @staticmethod
    def virtual_service(seconds: int) -> Object:
        spec = {
            "hosts": ["s3.shop.svc.cluster.local"],
            "http": [{"timeout": f"{seconds}s", "route": [{"destination": {"host": "s3"}}]}],
        }
        return obj("VirtualService", "s3", version="networking.istio.io/v1", spec=spec)

    def find(self, cluster: int, kind: str, name: str) -> Object:
        return next(
            each
            for each in self.clusters[cluster]["objects"]
            if (each["kind"], each["metadata"]["name"]) == (kind, name)
        )

    def put(self, cluster: int, *objects: Object) -> None:
        self.clusters[cluster]["objects"] += objects

    def settle(self) -> dict[str, int]:
        """How often each derivation ran, or was patched, but for lookups in the snapshot."""
        before = self._computed()
        self.kept.learn(scenario_of(self.document).snapshot())
        for _ in self.kept.settling():
            pass
        self.kept.changed()
        return {name: count - before[name] for name, count in self._computed().items() if count != before[name]}

    def _computed(self) -> dict[str, int]:
        found = summaries(self.kept.derivations.graph)
        kept = [each for each in found if not each.name.startswith(("snapshot.", "keys of"))]
        ran = [
            count for each in kept for count in ((each.name, each.computed), (f"{each.name}, patched", each.patched))
        ]
        return dict(ran)
