"""Generated meshes: histories of objects in several clusters, and proxies that ask. For laws over whatever may happen."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from isthmus.api.registry import KINDS, decode
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.proxies import placed, proxy_of
from isthmus.ingest.snapshot import Reading, read
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import GlobalNames, MeshSettings, Snapshot
from isthmus.model.topology import ImportState, Locality

SETTINGS = MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"))
CLUSTERS = ("a", "b", "c")
CONFIG = "b"
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "nonsense", "")
APPS, SERVICES, NETWORKS = ("x", "y"), ("s1", "s2"), ("n1", "n2", "n3")


def obj(kind, name, namespace="ns", labels=None, **fields):
    return kind, {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, **fields}


def pick(*values):
    return st.sampled_from(values)


meshed = st.fixed_dictionaries(
    {},
    optional={
        "security.istio.io/tlsMode": pick("istio", "disabled"),
        "topology.istio.io/network": pick(*NETWORKS),
        "topology.istio.io/locality": pick("eu.a", "us"),
        "app": pick(*APPS),
        "identity": pick(*APPS),
    },
)
pods = st.builds(
    lambda name, ip, labels, phase, ready, account: obj(
        "Pod", name, labels=labels, spec={"nodeName": "n", "serviceAccountName": account},
        status={"podIP": ip, "phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    ),
    pick("p1", "p2", "p3"), pick(*ADDRESSES), meshed, pick("Running", "Succeeded"), pick("True", "False"), pick("", "sa"),
)  # fmt: skip
nodes = st.builds(
    lambda region, zone: obj(
        "Node", "n", "", {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}
    ),
    pick("eu", "us"),
    pick("a", "b"),
)
namespaces = pick(*NETWORKS, "").map(
    lambda name: obj("Namespace", "istio-system", "", {"topology.istio.io/network": name})
)
bounded = pick("", "virtualservices=1", "services=1, httproutes=0", "serviceentries=1, authorizationpolicies=0").map(
    lambda text: ("Namespace", {"metadata": {"name": "ns", "namespace": "", "annotations": {"isthmus.io/quota": text}}})
)
ports = st.lists(
    st.builds(
        lambda number, name, protocol: {"port": number, "name": name, "protocol": protocol},
        pick(53, 80, 81), pick("http", "tcp", "dns"), pick("TCP", "UDP"),
    ), max_size=3,
)  # fmt: skip
services = st.builds(
    lambda name, ip, ports, export, inside: (
        obj(
            "Service",
            name,
            spec={"clusterIP": ip, "ports": ports, "internalTrafficPolicy": inside, "selector": {"app": "x"}},
        )
        if not export
        else (
            "Service",
            {
                "metadata": {"name": name, "namespace": "ns", "annotations": {"networking.istio.io/exportTo": export}},
                "spec": {"clusterIP": ip, "ports": ports},
            },
        )
    ),
    pick(*SERVICES),
    pick("10.96.0.1", "10.96.0.2", "None", "fd00:96::1", ""),
    ports,
    pick("", "*", ".", "other", "~"),
    pick("Cluster", "Cluster", "Local"),
)
aliases = st.builds(
    lambda name, to: obj("Service", name, spec={"type": "ExternalName", "externalName": to}),
    pick("s2", "s3", "s4"),
    pick("s1.ns.svc.cluster.local", "s3.ns.svc.cluster.local", "x.example", "outside.example"),
)
gateways = st.builds(
    lambda name, network, ips, port: obj(
        "Service", name, "istio-system", {"topology.istio.io/network": network},
        spec={"externalIPs": ips, "ports": [{"port": port, "name": "tls"}]},
    ),
    pick("gw1", "gw2"), pick(*NETWORKS), st.lists(pick("1.1.1.1", "1.1.1.2", "fd00:1::1", "lb.example.com"), max_size=3), pick(15443, 443),
)  # fmt: skip
slice_endpoints = st.builds(
    lambda ip, pod, host, conditions: {
        "addresses": [ip],
        "hostname": host,
        "conditions": conditions,
        **({"targetRef": {"kind": "Pod", "name": pod}} if pod else {}),
    },
    pick(*ADDRESSES),
    pick("", "p1", "p2"),
    pick("", "p1", "p2"),
    st.dictionaries(pick("ready", "serving", "terminating"), st.booleans(), max_size=2),
)
slices = st.builds(
    lambda name, service, endpoints, port: obj(
        "EndpointSlice", name, labels={"kubernetes.io/service-name": service} if service else {},
        endpoints=endpoints, ports=[{"name": port, "port": 8080}],
    ),
    pick("e1", "e2"), pick(*SERVICES, ""), st.lists(slice_endpoints, max_size=3), pick("http", "tcp"),
)  # fmt: skip
written = st.builds(
    lambda ip, network, account, labels, weight: {
        "address": ip, "network": network, "serviceAccount": account, "labels": labels, "weight": weight,
    },
    pick(*ADDRESSES), pick("", *NETWORKS), pick("", "vm"), meshed, pick(0, 1, 7, 2**32 - 1),
)  # fmt: skip
entries = st.builds(
    lambda name, host, resolution, endpoints, location, app: obj(
        "ServiceEntry", name,
        spec={
            "hosts": [host], "ports": [{"number": 80, "name": "http"}], "resolution": resolution,
            "endpoints": endpoints, "location": location,
        } | ({"workloadSelector": {"labels": {"app": app}}} if app else {}),
    ),
    pick("x1", "x2"), pick("x.example", "s1.ns.svc.cluster.local"), pick("STATIC", "DNS", "NONE", "ODD"), st.lists(written, max_size=3),
    pick("MESH_INTERNAL", "MESH_EXTERNAL"), pick("", *APPS),
)  # fmt: skip
machines = st.builds(lambda name, spec: obj("WorkloadEntry", name, spec=spec), pick("w1", "w2"), written)
rules = st.builds(
    lambda host, tls, subset: obj(
        "DestinationRule", host.partition(".")[0],
        spec={"host": host, "trafficPolicy": {"tls": {"mode": tls}}, "subsets": [{"name": "v", "labels": subset}]},
    ),
    pick("s1", "s2.ns.svc.cluster.local"), pick("", "DISABLE", "ISTIO_MUTUAL"), meshed,
)  # fmt: skip
exposures = st.just(
    obj("Gateway", "g", "istio-system", spec={"servers": [{"port": {"number": 15443}, "hosts": ["*"], "tls": {"mode": "AUTO_PASSTHROUGH"}}]})
)  # fmt: skip
listeners = st.lists(
    st.builds(
        lambda name, port, protocol, host, mode, allowed: {
            "name": name, "port": port, "protocol": protocol, "hostname": host, "allowedRoutes": {"namespaces": {"from": allowed}},
            **({"tls": {"mode": mode, "certificateRefs": [{"name": "c", "namespace": "other"}]}} if protocol in ("TLS", "HTTPS") else {}),
        },
        pick("l1", "l2", "l3"), pick(80, 81, 15443), pick("HTTP", "HTTPS", "TLS", "TCP", "UDP"), pick("", "*.example", "x.example"),
        pick("Terminate", "Passthrough"), pick("All", "Same"),
    ), max_size=3,
)  # fmt: skip
fronts = st.builds(
    lambda name, cls, found, network, allowed: obj(
        "KubernetesGateway", name, labels={"topology.istio.io/network": network} if network else {},
        spec={
            "gatewayClassName": cls, "listeners": found, "addresses": [{"value": "1.1.1.9"}] if cls == "istio-remote" else [],
            "allowedListeners": {"namespaces": {"from": allowed}},
        },
    ),
    pick("f1", "f2"), pick("istio", "istio-remote", "theirs"), listeners, pick("", "n1"), pick("None", "Same", "All"),
)  # fmt: skip
listener_sets = st.builds(
    lambda name, namespace, parent, found: obj(
        "ListenerSet", name, namespace, spec={"parentRef": {"name": parent, "namespace": "ns"}, "listeners": found}
    ),
    pick("m1", "m2"), pick("ns", "other"), pick("f1", "f2"), listeners,
)  # fmt: skip
parents = pick(
    {"name": "f1", "namespace": "ns"},
    {"name": "f2", "namespace": "ns", "sectionName": "l1"},
    {"kind": "ListenerSet", "name": "m1", "namespace": "other"},
    {"group": "", "kind": "Service", "name": "s1", "namespace": "ns"},
    {"group": "", "kind": "Service", "name": "s2", "namespace": "ns", "port": 80},
    {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "x1", "namespace": "ns"},
)
backends = pick(
    {"name": "s1", "namespace": "ns", "port": 80},
    {"name": "s2", "namespace": "ns", "port": 80, "weight": 3},
    {"name": "nobody", "port": 80},
    {"kind": "Odd", "name": "s1"},
)
matches = st.lists(
    pick(
        {"path": {"value": "/a"}},
        {"path": {"type": "Exact", "value": "/a"}},
        {"headers": [{"name": "h", "value": "1"}]},
    ),
    max_size=2,
)
routes = st.builds(
    lambda kind, name, namespace, parents, hosts, backends, matches: obj(
        kind, name, namespace,
        spec={
            "parentRefs": parents, "hostnames": hosts,
            "rules": [{"backendRefs": backends, **({"matches": matches} if kind == "HTTPRoute" else {})}],
        },
    ),
    pick("HTTPRoute", "TCPRoute", "TLSRoute"), pick("r1", "r2"), pick("ns", "other"), st.lists(parents, min_size=1, max_size=3),
    st.lists(pick("x.example", "*.example"), max_size=1), st.lists(backends, max_size=2), matches,
)  # fmt: skip
grants = st.builds(
    lambda kind, name: obj(
        "ReferenceGrant", "g", "ns" if kind == "HTTPRoute" else "other",
        spec={"from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "ns" if kind == "Gateway" else "other"}], "to": [name]},
    ),
    pick("HTTPRoute", "Gateway"), pick({"kind": "Service"}, {"kind": "Secret", "name": "c"}),
)  # fmt: skip
peers = pick("STRICT", "DISABLE").map(lambda mode: obj("PeerAuthentication", "p", spec={"mtls": {"mode": mode}}))
configs = pick(
    "serviceSettings: [{settings: {clusterLocal: true}, hosts: ['*']}]",
    "localityLbSetting: {distribute: [{from: 'eu/*', to: {'eu/*': 80, 'us/*': 20}}]}",
    "{",
).map(lambda text: obj("ConfigMap", "istio", "istio-system", data={"mesh": text}))

virtual_services = st.builds(
    lambda name, host, to, seconds, gateways, export: obj(
        "VirtualService", name,
        spec={
            "hosts": [host], "gateways": gateways, "exportTo": export,
            "http": [{"route": [{"destination": {"host": to}}], "timeout": f"{seconds}s"}],
        },
    ),
    pick("v1", "v2"), pick("s1", "s2.ns.svc.cluster.local", "*.example", "v.example"), pick("s1", "s2", "nobody"), st.integers(1, 2),
    pick(["mesh"], ["istio-system/g"]), pick([], ["."], ["*"]),
)  # fmt: skip
sidecars = st.builds(
    lambda name, hosts, mode: obj(
        "Sidecar", name, spec={"egress": [{"hosts": [hosts]}], "outboundTrafficPolicy": {"mode": mode}}
    ),
    pick("default"), pick("./*", "*/*", "~/*", "ns/s1.ns.svc.cluster.local"), pick("ALLOW_ANY", "REGISTRY_ONLY"),
)  # fmt: skip
policies = pick("ALLOW", "DENY").map(
    lambda action: obj("AuthorizationPolicy", "a", spec={"action": action, "rules": [{}]})
)
filters = st.just(
    obj(
        "EnvoyFilter", "f",
        spec={
            "configPatches": [
                {"applyTo": "CLUSTER", "match": {"context": "SIDECAR_OUTBOUND"}, "patch": {"operation": "MERGE", "value": {"connect_timeout": "3s"}}}
            ]
        },
    )
)  # fmt: skip

deployments = st.builds(
    lambda name, app, labels: obj("Deployment", name, spec={"template": {"metadata": {"labels": {"app": app, **labels}}}}),
    pick("d1", "d2"), pick(*APPS), pick({}, {"identity": "x"}, {"identity": "x", "env": "stage"}),
)  # fmt: skip
spreads = st.builds(
    lambda name, prefix, how, weight: obj(
        "GlobalTrafficPolicy", name, labels={"identity": "x"},
        spec={"policy": [{"dnsPrefix": prefix, "lbType": how, "target": [{"region": "eu", "weight": weight}, {"region": "us", "weight": 20}]}]},
    ),
    pick("t1", "t2"), pick("default", "far"), pick(0, 1), pick(80, 70),
)  # fmt: skip

things = st.one_of(
    pods, pods, nodes, namespaces, bounded, services, services, aliases, gateways, slices, slices, entries, machines, rules,
    exposures, peers, configs, virtual_services, sidecars, policies, filters,
    fronts, listener_sets, routes, routes, grants, deployments, spreads,
)  # fmt: skip
changes = st.tuples(st.sampled_from(CLUSTERS), st.booleans(), things)
"""In which cluster, whether the object goes, and the object as it is then."""
callers = st.builds(
    lambda kind, cluster, network, families, view, namespace, captures: (
        f"{kind}~10.0.0.1~p1.{namespace}~d",
        {"CLUSTER_ID": cluster, "NETWORK": network, "INSTANCE_IPS": families, "REQUESTED_NETWORK_VIEW": view, "DNS_CAPTURE": captures},
    ),
    pick("sidecar", "router"), pick(*CLUSTERS), pick("", *NETWORKS), pick("10.0.0.1", "10.0.0.1,fd00::1", "fd00::1"),
    pick("", "n1", "n1,n2"), pick("ns", "other"), pick("false", "true"),
)  # fmt: skip


@dataclass(frozen=True)
class History:
    """What happened, and how global names end in the mesh; empty where it has none."""

    happened: list[Any]
    suffix: str

    def and_then(self, more):
        return replace(self, happened=[*self.happened, *more])


class World:
    """What the API servers of all clusters have. `names` are what clusters are called instead."""

    def __init__(self, history, names=None):
        self.settings = replace(SETTINGS, global_names=GlobalNames(suffix=history.suffix))
        self.names = names or {cluster: cluster for cluster in CLUSTERS}
        self.objects: dict[tuple[str, str, str, str], object] = {}
        for change in history.happened:
            self.happens(*change)

    def happens(self, cluster, goes, thing):
        kind, body = thing
        key = (cluster, kind, body["metadata"]["namespace"], body["metadata"]["name"])
        if goes:
            self.objects.pop(key, None)
        else:
            self.objects[key] = decode(KINDS[kind], body)

    def inputs(self, chance: random.Random | None = None) -> list[ClusterInput]:
        found: dict[str, dict[str, dict[tuple[str, str], object]]] = {cluster: {} for cluster in CLUSTERS}
        items = list(self.objects.items())
        if chance:
            chance.shuffle(items)
        for (cluster, kind, namespace, name), each in items:
            found[cluster].setdefault(kind, {})[namespace, name] = each
        inputs = [
            ClusterInput(id=ClusterId(self.names[c]), state=ImportState.LIVE, objects=o) for c, o in found.items()
        ]
        if chance:
            chance.shuffle(inputs)
        return inputs

    def snapshot(self, *, cache=None, chance=None) -> Snapshot:
        return self.reading(cache or IngestCache(), chance).snapshot

    def reading(self, cache: IngestCache, chance: random.Random | None = None) -> Reading:
        return read(self.settings, self.inputs(chance), ClusterId(self.names[CONFIG]), cache)

    def proxy(self, caller):
        node, metadata = caller
        own: Mapping[str, Mapping[tuple[str, str], object]] = next(
            each.objects for each in self.inputs() if each.id == metadata["CLUSTER_ID"]
        )
        return placed(proxy_of(node, metadata, Locality("eu", "a"), None), own)


histories = st.builds(History, st.lists(changes, min_size=10, max_size=30), pick("", "global"))
