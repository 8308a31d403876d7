"""Two meshes that know each other, from objects to what their proxies are told. Each has one cluster; what one offers, the other hears."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from documents import decoded

from isthmus.discovery.federation import offers_for
from isthmus.discovery.view import view_for
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import Besides, ClusterInput
from isthmus.ingest.proxies import placed, proxy_of
from isthmus.ingest.snapshot import read
from isthmus.model.federation import HeardPeer, Offers
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import ImportState, Locality
from isthmus.model.views import Upstream, View

TRUST_DOMAINS = {MeshId(f"mesh-{letter}"): TrustDomain(f"{letter}.example") for letter in "abc"}


@dataclass
class OneMesh:
    """Its objects, and what it has heard."""

    id: MeshId
    objects: list[dict[str, Any]] = field(default_factory=list)
    heard: dict[MeshId, HeardPeer] = field(default_factory=dict)
    trusts: tuple[str, ...] = tuple(map(str, TRUST_DOMAINS.values()))

    def add(self, text: str) -> None:
        self.objects += [each for each in yaml.safe_load_all(text) if each]

    def snapshot(self) -> Snapshot:
        own = TRUST_DOMAINS[self.id]
        trusted = tuple(sorted(map(TrustDomain.parse, {*self.trusts} - {str(own)})))
        settings = MeshSettings(mesh=self.id, trust_domain=own, peer_trust_domains=trusted)
        besides = Besides(heard=self.heard)
        return read(settings, [self.cluster()], ClusterId("c"), IngestCache(), besides).snapshot

    def cluster(self) -> ClusterInput:
        return ClusterInput(id=ClusterId("c"), state=ImportState.LIVE, objects=decoded(self.objects))

    def offers_to(self, peer: MeshId) -> Offers:
        """Nothing to a mesh that no MeshPeer is for."""
        snapshot = self.snapshot()
        return next((offers_for(each, snapshot) for each in snapshot.mesh_peers if each.mesh == peer), Offers())

    def view(self, name: str, ip: str = "10.0.0.99", kind: str = "sidecar", **metadata: Any) -> View:
        node = f"{kind}~{ip}~{name}~{name.rpartition('.')[2]}.svc.cluster.local"
        proxy = proxy_of(
            node, {"CLUSTER_ID": "c", "NETWORK": "n1", "DNS_CAPTURE": "true", **metadata}, Locality(), None
        )
        return view_for(placed(proxy, self.cluster().objects), self.snapshot())

    def called(self, name: str, host: str) -> list[Upstream]:
        """The service ports of a host, as a sidecar may use them."""
        return [each for each in self.view(name).outbound.upstreams if each.service.hostname == host]


@dataclass
class Meshes:
    """By their letters."""

    by_letter: dict[str, OneMesh]

    def __getitem__(self, letter: str) -> OneMesh:
        return self.by_letter[letter]

    def talk(self) -> Meshes:
        """Every mesh hears what every other tells it, until nobody has news: a caller's identity goes one way before the service comes back."""
        for _ in range(2):
            told = {
                (one.id, other.id): one.offers_to(other.id)
                for one in self.by_letter.values()
                for other in self.by_letter.values()
                if one is not other
            }
            for (speaker, listener), offers in told.items():
                [hears] = [each for each in self.by_letter.values() if each.id == listener]
                hears.heard[speaker] = HeardPeer(state=ImportState.LIVE, offers=offers)
        return self


def meshes(letters: Iterable[str] = "ab", *, objects: str = "") -> Meshes:
    """Each with the same objects to begin with."""
    found = {letter: OneMesh(MeshId(f"mesh-{letter}")) for letter in letters}
    for each in found.values():
        each.add(objects)
    return Meshes(found)


def peer(letter: str, **spec: Any) -> dict[str, Any]:
    """The MeshPeer for another mesh."""
    return {
        "apiVersion": "federation.isthmus.io/v1alpha1",
        "kind": "MeshPeer",
        "metadata": {"name": f"mesh-{letter}", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"mesh": f"mesh-{letter}", "trustDomain": f"{letter}.example", **spec},
    }


def export(service: str, *callers: str) -> dict[str, Any]:
    namespace, _, name = service.partition("/")
    return {"namespace": namespace, "name": name, "callers": list(callers)}


def imported(service: str, *to: str) -> dict[str, Any]:
    namespace, _, name = service.partition("/")
    return {"namespace": namespace, "name": name, "to": list(to)}


def aged(heard: Mapping[MeshId, HeardPeer], **changes: Any) -> dict[MeshId, HeardPeer]:
    """The same news, older."""
    return {mesh: replace(news, **changes) for mesh, news in heard.items()}


SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: n1}}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: sample}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: secret, namespace: sample}
spec: {clusterIP: 10.96.0.11, ports: [{name: http, port: 80, targetPort: 9090}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hello-1, namespace: sample, labels: {security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: hello}
status: {podIP: 10.0.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hello-2, namespace: sample, labels: {security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: hello}
status: {podIP: 10.0.0.2, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hello-1, namespace: sample, labels: {kubernetes.io/service-name: hello}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: hello-1}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: hello-2}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: secret-1, namespace: sample, labels: {kubernetes.io/service-name: secret}}
addressType: IPv4
ports: [{name: http, port: 9090}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: hello-1}}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: istio-system, labels: {federation.isthmus.io/gateway-port: "15444"}}
spec: {type: LoadBalancer, ports: [{name: tls-peers, port: 15444}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: peers, namespace: istio-system}
spec:
  selector: {istio: eastwestgateway}
  servers:
  - port: {number: 15444, name: tls-peers, protocol: TLS}
    tls: {mode: AUTO_PASSTHROUGH}
    hosts: ["*.mesh"]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network, namespace: istio-system}
spec:
  selector: {istio: eastwestgateway}
  servers:
  - port: {number: 15443, name: tls, protocol: TLS}
    tls: {mode: AUTO_PASSTHROUGH}
    hosts: ["*.local"]
"""
"""In both meshes alike: the same names, addresses and accounts; `hello` and `secret` are served by the same Pod."""
