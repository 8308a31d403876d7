"""One change runs exactly the derivations that read it: what-runs.txt says which, for each kind of event. ISTHMUS_REWRITE=1 writes it anew: read
every changed line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import scenario_of
from isthmus.controlplane.tables import Tables
from isthmus.incremental.describe import summaries

TRANSCRIPT = Path(__file__).parent / "what-runs.txt"
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
        """How often each derivation ran, but for lookups in the snapshot."""
        before = self._computed()
        self.kept.learn(scenario_of(self.document).snapshot())
        for _ in self.kept.settling():
            pass
        self.kept.changed()
        return {name: count - before[name] for name, count in self._computed().items() if count != before[name]}

    def _computed(self) -> dict[str, int]:
        found = summaries(self.kept.derivations.graph)
        return {each.name: each.computed for each in found if not each.name.startswith(("snapshot.", "keys of"))}


def unready(mesh: Mesh) -> None:
    mesh.find(0, "EndpointSlice", "s4-x")["endpoints"][0]["conditions"]["ready"] = False


def rule_changes(mesh: Mesh) -> None:
    mesh.find(0, "DestinationRule", "s1")["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = 2


def route_changes(mesh: Mesh) -> None:
    mesh.find(0, "VirtualService", "s3")["spec"] = mesh.virtual_service(seconds=2)["spec"]


def service_appears(mesh: Mesh) -> None:
    mesh.put(0, *of_service(0, 99, "shop"))


def gateway_moves(mesh: Mesh) -> None:
    mesh.find(1, "Service", "gw")["status"]["loadBalancer"]["ingress"][0]["ip"] = "172.30.1.77"


def mode_changes(mesh: Mesh) -> None:
    mesh.put(0, obj("PeerAuthentication", "p", "till", "security.istio.io/v1", spec={"mtls": {"mode": "STRICT"}}))


def policy_appears(mesh: Mesh) -> None:
    mesh.put(0, obj("AuthorizationPolicy", "a", "till", "security.istio.io/v1", spec={"rules": [{}]}))


def nothing_happens(mesh: Mesh) -> None:
    mesh.find(0, "Pod", "s4-0")["metadata"]["annotations"] = {"seen": "again"}


def known_proxy_connects(mesh: Mesh) -> None:
    whole = scenario_of(mesh.document)
    mesh.kept.connect(proxy_in(whole, node_of(whole, "sidecar/s3-0.shop", "east")))


EVENTS: dict[str, Callable[[Mesh], None]] = {
    "an endpoint is not ready any longer": unready,
    "something is written that says the same": nothing_happens,
    "a DestinationRule changes": rule_changes,
    "a VirtualService changes": route_changes,
    "a Service appears": service_appears,
    "a network gateway has another address": gateway_moves,
    "a namespace demands mutual TLS": mode_changes,
    "a namespace gets an AuthorizationPolicy": policy_appears,
    "a sidecar of a known scope connects": known_proxy_connects,
}


def ran_in(services: int, event: str) -> dict[str, int]:
    mesh = Mesh(services)
    EVENTS[event](mesh)
    return mesh.settle()


@pytest.mark.parametrize("event", EVENTS)
def test_what_runs(event):
    told = "\n".join([event, *(f"  {name:20}{count:4}" for name, count in ran_in(6, event).items())])
    text = TRANSCRIPT.read_text() if TRANSCRIPT.exists() else ""
    known = {block.splitlines()[0]: block for each in text.split("\n\n") if (block := each.strip("\n"))}

    if os.environ.get("ISTHMUS_REWRITE"):
        known[event] = told
        TRANSCRIPT.write_text("\n\n".join(known[each] for each in EVENTS if each in known) + "\n")
    assert known[event].splitlines() == told.splitlines()


@pytest.mark.parametrize(
    "event",
    [
        "an endpoint is not ready any longer",
        "something is written that says the same",
        "a DestinationRule changes",
        "a VirtualService changes",
    ],
)
def test_it_is_the_same_in_a_mesh_of_ten_times_as_many_services(event):
    assert ran_in(60, event) == ran_in(6, event)
