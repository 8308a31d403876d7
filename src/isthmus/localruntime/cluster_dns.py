"""A cluster's own DNS: what kube-dns is elsewhere. It answers for the Services of its cluster and has heard of no other, mesh or no mesh.

It listens in the network's router, where its ClusterIP leads. The names are those that `isthmus dns explain` takes it to know.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

import structlog

from isthmus.agent.namespaces import bound_socket
from isthmus.api.registry import KINDS, UndecodableObject, decode
from isthmus.discovery.naming import names_of_cluster
from isthmus.dns.answers import NameTable
from isthmus.dns.server import DnsServer
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.snapshot import snapshot_of
from isthmus.kubernetes.resources import ENDPOINT_SLICES, PODS, SERVICES, ResourcePath
from isthmus.kubernetes.watch import Name
from isthmus.localruntime.controllers.actions import Object
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.plan import ClusterPlan, NetworkPlan
from isthmus.localruntime.service_routing import Route
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState

_FIRST_PORT = 10053
_READ = {SERVICES: "Service", ENDPOINT_SLICES: "EndpointSlice", PODS: "Pod"}
_PAUSE_SECONDS = 0.05

log = structlog.get_logger()


class ClusterDns:
    """One cluster's. `run` until cancelled; until its cache is there it asks everybody to try again."""

    def __init__(self, cluster: ClusterPlan, network: NetworkPlan) -> None:
        self._cluster = cluster
        self._network = network
        self._port = _FIRST_PORT + cluster.index
        self._server = DnsServer([], _nobody)
        self._cache: ClusterCache | None = None
        self._due = asyncio.Event()
        self._decoded = {resource: DecodedObjects(kind, cluster.id) for resource, kind in _READ.items()}

    @property
    def routes(self) -> list[Route]:
        """From the ClusterIP to where it listens."""
        to = ((self._network.router_ip, self._port),)
        return [Route(self._cluster.dns_address, protocol, 53, to) for protocol in ("tcp", "udp")]

    def follow(self, cache: ClusterCache) -> None:
        """Its names are those of this cache from now on."""
        self._cache = cache
        cache.subscribe(self._changed)
        self._due.set()

    async def run(self) -> None:
        namespace = f"/run/netns/{self._network.namespace}"
        udp, tcp = (
            bound_socket(namespace, kind, self._network.router_ip, self._port)
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.run(udp, tcp), name=f"dns of {self._cluster.id}")
            while True:
                await self._due.wait()
                self._due.clear()
                self._read()
                # A rollout changes many objects at once.
                await asyncio.sleep(_PAUSE_SECONDS)

    def _read(self) -> None:
        assert self._cache is not None, "nothing is due before it is there"
        settings = MeshSettings(mesh=MeshId(""), trust_domain=TrustDomain("cluster.local"))
        state = self._cache.state
        objects = {kind: self._decoded[resource].of(state[resource]) for resource, kind in _READ.items()}
        own = ClusterInput(id=self._cluster.id, state=ImportState.LIVE, objects=objects)
        records = names_of_cluster(own.id, snapshot_of(settings, [own], own.id))
        self._server.table = NameTable.prepare(records, namespace="", dns_domain=settings.dns_domain)

    def _changed(self, resource: ResourcePath, _: object) -> None:
        if resource in _READ:
            self._due.set()


class DecodedObjects:
    """One kind's. Each version of an object is decoded once, and one that cannot be is told once."""

    def __init__(self, kind: str, cluster: ClusterId) -> None:
        self._kind = kind
        self._cluster = cluster
        self._known: dict[Name, tuple[str, object]] = {}

    def of(self, objects: Mapping[Name, Object]) -> dict[Name, object]:
        """Without those that cannot be decoded."""
        before, self._known = self._known, {}
        for name, obj in objects.items():
            version = obj["metadata"]["resourceVersion"]
            found = before.get(name)
            self._known[name] = found if found and found[0] == version else (version, self._decoded(name, obj))
        return {name: each for name, (_, each) in self._known.items() if each is not None}

    def _decoded(self, name: Name, obj: Object) -> object:
        try:
            return decode(KINDS[self._kind], obj)
        except UndecodableObject as error:
            log.warning("not in DNS", cluster=self._cluster, kind=self._kind, name="/".join(name), error=str(error))
            return None


def _nobody(_: int, __: str) -> socket.socket:
    raise OSError("there is no name server beyond the cluster's")
