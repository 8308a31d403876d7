"""A small mesh with a control plane's delivery, whose proxies come by a function call."""

from __future__ import annotations

from small_meshes import Mesh

from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState
from isthmus.trust.authentication import Authenticator, ServiceAccount
from isthmus.xds.directory import CallFacts
from isthmus.xds.node import NodeClaims


def served(mesh: Mesh) -> tuple[World, Delivery]:
    """The control plane of east."""
    east = ClusterId("east")
    world = World(MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local")), east)
    for each in mesh.clusters:
        world.put(ClusterId(each["id"]), imported(each["objects"]))
    machines = Machines(world, me="east/istiod", system_namespace=Namespace("istio-system"), grace_seconds=10)
    return world, Delivery(world, Authenticator(TrustDomain("cluster.local"), east, review, lambda: 0.0), machines)


def imported(objects: list) -> ImportedCluster:
    found = ImportedCluster()
    found.state = ImportState.LIVE
    for body in objects:
        if body["kind"] in KINDS:
            metadata = body["metadata"]
            name = (metadata.get("namespace", ""), metadata["name"])
            found.objects.setdefault(body["kind"], {})[name] = decode(KINDS[body["kind"]], body)
    return found


async def review(token: str, cluster: ClusterId) -> ServiceAccount:
    namespace, name = token.split("/")
    return ServiceAccount(Namespace(namespace), name)


def claims_of(proxy) -> NodeClaims:
    metadata = {"CLUSTER_ID": proxy.cluster, "NETWORK": proxy.scope.network, "NAMESPACE": proxy.scope.namespace}
    return NodeClaims(id=proxy.id, metadata=metadata, locality=("", "", ""), user_agent="")


def call_of(proxy) -> CallFacts:
    metadata = {"authorization": f"Bearer {proxy.scope.namespace}/default", "clusterid": proxy.cluster}
    return CallFacts(metadata=metadata, peer_certificate="", peer="p")
