"""The objects with which a cluster of the local runtime begins: what `istioctl install` and a tutorial's YAML would have put there."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

from isthmus.api.crds import all_crds
from isthmus.api.federation import GATEWAY_PORT
from isthmus.ingest.labels import NETWORK, PEER_GATEWAY_PORT
from isthmus.injection.selection import DEFAULT_REVISION
from isthmus.installation import rights
from isthmus.installation.gateways import (
    cross_network,
    exposed_control_plane,
    exposed_ports,
    for_peers,
    network_gateway_ports,
)
from isthmus.installation.settings import Profile, install_settings
from isthmus.kubernetes import reader_access
from isthmus.kubernetes.kubeconfig import ContextEntry, render
from isthmus.localruntime.images import CONTROL_PLANE, PROXY, TUNNEL
from isthmus.localruntime.plan import ClusterPlan, Plan, Role
from isthmus.peering.messages import PORT as PORT_FOR_PEERS
from isthmus.trust.federation import BUNDLE_PORT

Object = dict[str, Any]

SYSTEM = "istio-system"
READER = "istio-reader-service-account"
GATEWAY = "istio-eastwestgateway"
_OF_GATEWAY = {"app": GATEWAY, "istio": "eastwestgateway"}
CONFIG_SECRET = "istio-kubeconfig"
TUNNEL_ACCOUNT = "istio-tunnel"
TUNNEL_PORT = 15446
TOKEN_PORT = 15012
_CONTROL_PLANE_PORTS = {
    "https-dns": (TOKEN_PORT, TOKEN_PORT),
    "https-mtls": (15013, 15013),
    "https-webhook": (443, 15017),
    "http-monitoring": (15014, 15014),
    "https-bundle": (BUNDLE_PORT, BUNDLE_PORT),
}
"""Of its Services: what they listen on, and where they lead."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""As Kubernetes calls them."""
_OWN_CLUSTER_ONLY = {"isthmus.io/drift": "ignored"}
"""What each cluster has for itself is no difference between their rules."""


def nodes(cluster: ClusterPlan) -> Iterator[Object]:
    """All Nodes are this machine."""
    for node in cluster.nodes:
        labels = {
            "kubernetes.io/hostname": node.name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/region": node.region,
            "topology.kubernetes.io/zone": node.zone,
        }
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the local runtime runs"}
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": labels},
            "spec": {},
            "status": {
                "conditions": [ready],
                "addresses": [{"type": "Hostname", "address": node.name}],
                "nodeInfo": _node_info(node.name),
            },
        }


def _node_info(name: str) -> Object:
    """Every field: clients that go by the API's definition take no Node that lacks one."""
    here = platform.uname()
    return {
        "architecture": _ARCHITECTURES.get(here.machine, here.machine),
        "operatingSystem": "linux",
        "kernelVersion": here.release,
        "osImage": "Linux",
        "machineID": name,
        "systemUUID": name,
        "bootID": name,
        "containerRuntimeVersion": "isthmus://local",
        "kubeletVersion": "isthmus-local",
        "kubeProxyVersion": "",
    }


def system(plan: Plan, cluster: ClusterPlan, authority: Object | None, bundles: Object | None) -> Iterator[Object]:
    """What a cluster has before the first workload: definitions, the mesh's namespace, rights, control plane, gateway.

    Keys of an authority are where a control plane runs, and nowhere else.
    """
    yield from all_crds()
    yield from nodes(cluster)
    yield _system_namespace(plan, cluster)
    yield from (obj for obj in (authority, bundles) if obj is not None)
    yield from _accounts(plan, cluster)
    if cluster.runs_control_plane:
        for revision in cluster.revisions:
            yield from control_plane(plan, cluster, revision)
        for tag, revision in cluster.tags.items():
            yield _control_plane_service(plan, cluster, tag, revision)
        if len(plan.meshes) > 1:
            yield _peers_service(cluster)
    if cluster.gateways and cluster.role is not Role.EXTERNAL:
        yield from network_gateway(plan, cluster)
    yield from tunnels(plan, cluster)


def _accounts(plan: Plan, cluster: ClusterPlan) -> Iterator[Object]:
    """Who reads the cluster from outside, and its control plane, with the rights that an installation gives them."""
    said = install_settings(
        Profile.PRIMARY, {"cluster": cluster.id, "clusterSet.enabled": "true", "machines.enabled": "true"}
    )
    yield _account(READER, SYSTEM)
    reading = [*reader_access.rules(), *(rights.writer_rules(said) if _writers(cluster) else ())]
    yield from rights.cluster_role("istio-reader-clusterrole-istio-system", READER, SYSTEM, reading, {})
    if _writers(cluster):
        yield from rights.role(READER, READER, SYSTEM, [rights.LEASES], {})
    if any(c.config_cluster == cluster.id for c in plan.clusters) or cluster.runs_control_plane:
        yield _account("istiod", SYSTEM)
        ruling = [*rights.control_plane_rules(said), *_webhooks_of_other_revisions(plan, cluster)]
        yield from rights.cluster_role("istiod-clusterrole-istio-system", "istiod", SYSTEM, ruling, {})
        yield from rights.role("istiod", "istiod", SYSTEM, rights.system_rules(), {})


def _webhooks_of_other_revisions(plan: Plan, cluster: ClusterPlan) -> Iterator[Object]:
    """All revisions have one account here."""
    ruling = next((each for each in plan.clusters if each.config_cluster == cluster.id), cluster)
    for revision in ruling.revisions:
        if revision != DEFAULT_REVISION:
            said = install_settings(Profile.PRIMARY, {"cluster": cluster.id, "revision": revision})
            yield from rights.webhook_rules(said)


def _system_namespace(plan: Plan, cluster: ClusterPlan) -> Object:
    """Says the cluster's network, and which other control planes may write into it (Istio's annotation)."""
    namespace = _namespace(SYSTEM, {NETWORK: cluster.network} if cluster.control_planes else {})
    writers = _writers(cluster)
    if writers:
        namespace["metadata"]["annotations"] = {"topology.istio.io/controlPlaneClusters": ",".join(writers)}
    return namespace


def _writers(cluster: ClusterPlan) -> list[str]:
    return [name for name in cluster.control_planes if name != cluster.id]


def control_plane(plan: Plan, cluster: ClusterPlan, revision: str) -> Iterator[Object]:
    """One revision of `istiod`. Outside a mesh it takes its configuration from a cluster of the mesh, whose id it bears."""
    yield _control_plane_service(plan, cluster, revision, revision)
    outside = cluster.role is Role.EXTERNAL
    environment = {
        "CLUSTER_ID": cluster.config_cluster,
        "MESH_ID": cluster.mesh.id,
        "TRUST_DOMAIN": cluster.mesh.trust_domain,
        "REVISION": revision,
        # A tag leads from one revision to another, so each has to show its name.
        "ISTIOD_CUSTOM_HOST": ",".join(map(_server_name, cluster.tags)),
        "ISTHMUS_HOME_CLUSTER": cluster.id,
        **({"EXTERNAL_ISTIOD": "true", "ISTHMUS_CONFIG_SECRET": CONFIG_SECRET} if outside else {}),
        **cluster.environment,
    }
    container = {
        "name": "discovery",
        "image": CONTROL_PLANE,
        "env": [
            *({"name": name, "value": value} for name, value in environment.items() if value),
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 3},
    }
    labels = _control_plane_labels(revision) | {"sidecar.istio.io/inject": "false"}
    yield _deployment(control_plane_name(revision), SYSTEM, labels, "istiod", [container])


def control_plane_name(revision: str) -> str:
    """Of a revision's (or a tag's) Service and Deployment, as Istio has it."""
    return "istiod" if revision == "default" else f"istiod-{revision}"


def _control_plane_labels(revision: str) -> Object:
    """A control plane is no member of its mesh; its revision label alone would have it injected."""
    return {"app": "istiod", "istio": "pilot", "istio.io/rev": revision, "sidecar.istio.io/inject": "false"}


def _control_plane_service(plan: Plan, cluster: ClusterPlan, name: str, revision: str) -> Object:
    """By a revision's own name, or by a tag's."""
    labels = _control_plane_labels(revision) | ({"istio.io/tag": name} if name in cluster.tags else {})
    balanced = {"type": "LoadBalancer", "loadBalancerIP": cluster.revision_balanced(name)}
    is_shared = any(
        cluster.role is Role.EXTERNAL or plan.cluster(user).network == cluster.network for user in cluster.serves
    )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": control_plane_name(name), "namespace": SYSTEM, "labels": labels},
        "spec": {
            "clusterIP": control_plane_address(cluster, name),
            "selector": {"app": "istiod", "istio.io/rev": revision},
            "ports": [
                {"name": name, "port": port, "targetPort": target}
                for name, (port, target) in _CONTROL_PLANE_PORTS.items()
            ],
            **(balanced if is_shared else {}),
        },
    }


def _peers_service(cluster: ClusterPlan) -> Object:
    """Where other meshes' control planes ask, and nothing else is."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod-peers", "namespace": SYSTEM},
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerIP": cluster.peers_balanced,
            "selector": {"app": "istiod"},
            "ports": [
                {"name": name, "port": port, "targetPort": port}
                for name, port in (("tls-peers", PORT_FOR_PEERS), ("https-bundle", BUNDLE_PORT))
            ],
        },
    }


def control_plane_address(cluster: ClusterPlan, name: str = "") -> str:
    """The fixed ClusterIP of a revision's or a tag's `istiod`: agents know it before anything else runs. The first revision's by default."""
    names = cluster.control_plane_names
    return f"{cluster.service_cidr.rpartition('.')[0]}.{15 + names.index(name or names[0])}"


def control_plane_addresses(plan: Plan, cluster: ClusterPlan, own: str = "", revision: str = "") -> list[str]:
    """How proxies of `cluster` reach each of their control planes, in order of preference, as host:port. `own` is the address of its own.

    Its own by its ClusterIP; another one on the same network, or outside the mesh, by its load balancer: that of the `revision` that they are of,
    where it has that one; another network's through the gateway, which goes by the name that they ask for (`control_plane_server`).
    """
    found = []
    for name in cluster.control_planes:
        used = plan.cluster(name)
        if name == cluster.id:
            host = own or control_plane_address(cluster)
        elif used.role is Role.EXTERNAL or used.network == cluster.network:
            known = revision in used.control_plane_names
            host = used.revision_balanced(revision) if known else used.control_plane_balanced
        else:
            host = used.gateway_address
        found.append(f"{host}:{TOKEN_PORT}")
    return found


def control_plane_server(plan: Plan, cluster: ClusterPlan, revision: str) -> str:
    """The name by which proxies of a revision, or of a tag, know their control planes: its own, if all of these have it."""
    used = [plan.cluster(name) for name in cluster.control_planes]
    is_known = used and all(revision in each.control_plane_names for each in used)
    return _server_name(revision if is_known else "default")


def _server_name(revision: str) -> str:
    return f"{control_plane_name(revision)}.{SYSTEM}.svc"


def machine_control_planes(plan: Plan, cluster: ClusterPlan) -> list[str]:
    """How a machine that belongs to `cluster` reaches its control planes: where strangers do, as host:port."""
    used = map(plan.cluster, cluster.control_planes)
    hosts = (each.control_plane_balanced if each.role is Role.EXTERNAL else each.gateway_address for each in used)
    return [f"{host}:{TOKEN_PORT}" for host in hosts]


def network_gateway(plan: Plan, cluster: ClusterPlan) -> Iterator[Object]:
    """The east-west gateway of the cluster's network, and the Services that it exposes to the mesh.

    Where other networks' proxies use this cluster's control plane, they reach it here: TLS passes through, by SNI.
    """
    of_machines = {name for machine in plan.machines for name in plan.cluster(machine.cluster).control_planes}
    leads_to_control_plane = cluster.id in of_machines or any(
        plan.cluster(user).network != cluster.network for user in cluster.serves
    )
    exposed = exposed_ports() if leads_to_control_plane else []
    has_peers = len(plan.meshes) > 1
    account = f"{GATEWAY}-service-account"
    yield _account(account, SYSTEM)
    yield _network_gateway_service(cluster, network_gateway_ports(exposed, for_peers=has_peers), for_peers=has_peers)
    container = {
        "name": "istio-proxy",
        "image": PROXY,
        "args": ["proxy", "router"],
        "env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": cluster.network}],
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 2},
    }
    labels = _OF_GATEWAY | {NETWORK: cluster.network}
    yield _deployment(GATEWAY, SYSTEM, labels, account, [container], replicas=cluster.gateways)
    rules = [cross_network(SYSTEM, {})]
    if has_peers:
        rules.append(for_peers(SYSTEM, cluster.mesh.id, {}))
    if exposed:
        rules += _exposed_control_planes(cluster, exposed)
    for rule in rules:
        rule["metadata"]["annotations"] = _OWN_CLUSTER_ONLY
        yield rule


def _exposed_control_planes(cluster: ClusterPlan, ports: list[int]) -> Iterator[Object]:
    """Each revision and tag by its own name; by the name that all have, the first revision."""
    for name in cluster.control_plane_names:
        yield from exposed_control_plane(SYSTEM, control_plane_name(name), ports, {})
    first = control_plane_name(cluster.revisions[0])
    if "default" not in cluster.control_plane_names:
        yield from exposed_control_plane(SYSTEM, "istiod", ports, {}, leads_to=first)


def _network_gateway_service(cluster: ClusterPlan, ports: list[Object], *, for_peers: bool) -> Object:
    labels, spec = dict(_OF_GATEWAY), {"selector": {"istio": _OF_GATEWAY["istio"]}, "ports": ports}
    if cluster.tunnel:
        # Who dials out has no address that others could use: they find the end of its tunnel.
        spec["clusterIP"] = cluster.gateway_cluster_ip
    else:
        labels[NETWORK] = cluster.network
        spec |= {"type": "LoadBalancer", "loadBalancerIP": cluster.gateway_address}
    if for_peers:
        labels[PEER_GATEWAY_PORT] = str(GATEWAY_PORT)
    metadata = {"name": GATEWAY, "namespace": SYSTEM, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def tunnels(plan: Plan, cluster: ClusterPlan) -> Iterator[Object]:
    """The ends of tunnels that are in this cluster. The outside is entered as a gateway of the network that it leads to."""
    dialling = [other for other in plan.clusters if other.tunnel == cluster.id]
    if cluster.tunnel or dialling:
        yield _account(TUNNEL_ACCOUNT, SYSTEM)
    if cluster.tunnel:
        targets = {
            15443: f"{cluster.gateway_cluster_ip}:15443",
            cluster.api_port: f"{cluster.api_address}:{cluster.api_port}",
        }
        arguments = ["inside", "--outside", f"{plan.tunnel_address(cluster)}:{TUNNEL_PORT}"]
        arguments += [f"--target={port}={there}" for port, there in targets.items()]
        yield _tunnel_end(plan, cluster, TUNNEL_ACCOUNT, arguments, {})
    for other in dialling:
        name = f"{TUNNEL_ACCOUNT}-{other.id}"
        ports = {"tls": 15443, "tls-apiserver": other.api_port, "tls-dial": TUNNEL_PORT}
        labels = {NETWORK: other.network}
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": SYSTEM, "labels": labels},
            "spec": {
                "type": "LoadBalancer",
                "loadBalancerIP": plan.tunnel_address(other),
                "selector": {"app": name},
                "ports": [{"name": key, "port": port, "targetPort": port} for key, port in ports.items()],
            },
        }
        arguments = ["outside", f"--dial={TUNNEL_PORT}", "--call=15443", f"--call={other.api_port}"]
        yield _tunnel_end(plan, cluster, name, arguments, {"tcpSocket": {"port": TUNNEL_PORT}})


def _tunnel_end(plan: Plan, cluster: ClusterPlan, name: str, arguments: list[str], ready: Object) -> Object:
    ways = [f"--control-plane={address}" for address in control_plane_addresses(plan, cluster)]
    container: Object = {
        "name": "tunnel",
        "image": TUNNEL,
        "args": [*arguments, "--cluster-id", cluster.id, "--trust-domain", cluster.mesh.trust_domain, *ways],
        **({"readinessProbe": ready | {"periodSeconds": 2}} if ready else {}),
    }
    return _deployment(name, SYSTEM, {"app": name, "sidecar.istio.io/inject": "false"}, TUNNEL_ACCOUNT, [container])


def config_secret(cluster: ClusterPlan, ca_pem: str, token: str) -> Object:
    """With it, a control plane outside the mesh takes its configuration from `cluster`. Istio's name and key."""
    kubeconfig = render([ContextEntry(name=cluster.id, server=cluster.api_url, ca_pem=ca_pem, token=token)])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CONFIG_SECRET, "namespace": SYSTEM},
        "type": "Opaque",
        "stringData": {"config": kubeconfig},
    }


def remote_secret(cluster: ClusterPlan, server: str, ca_pem: str, token: str) -> Object:
    """With it, another control plane may read `cluster`, whose API server it finds at `server`."""
    kubeconfig = render([ContextEntry(name=cluster.id, server=server, ca_pem=ca_pem, token=token)])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"istio-remote-secret-{cluster.id}",
            "namespace": SYSTEM,
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": cluster.id},
        },
        "type": "Opaque",
        "stringData": {cluster.id: kubeconfig},
    }


def _namespace(name: str, labels: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _account(name: str, namespace: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def _deployment(
    name: str, namespace: str, labels: Object, account: str, containers: list[Object], *, replicas: int = 1
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": account, "containers": containers},
            },
        },
    }
