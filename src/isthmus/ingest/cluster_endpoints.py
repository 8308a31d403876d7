"""One cluster's Pods and EndpointSlices as workloads and endpoints, kept as they change.

There is one way to read them: `update`, with the names of what changed. From scratch is an update with all of them, so what is kept cannot differ
from what would be read anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import cast

from isthmus.api.core import EndpointSlice, Node, Pod, SliceEndpoint
from isthmus.ingest.endpoints import endpoints_of, pod_named_by, service_of
from isthmus.ingest.inputs import Objects
from isthmus.ingest.workloads import address_only, workload_of
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, Namespace, ServiceKey
from isthmus.model.topology import ClusterNetwork
from isthmus.model.workloads import Endpoint, Workload

Name = tuple[str, str]

POD, SLICE, NODE = "Pod", "EndpointSlice", "Node"


class ClusterEndpoints:
    """`workloads` by Pod; `by_service` has each service's endpoints, slice by slice."""

    def __init__(self, cluster: ClusterId, network: ClusterNetwork, trust_domain: TrustDomain, dns_domain: str) -> None:
        self._cluster = cluster
        self._network = network
        self._trust_domain = trust_domain
        self._dns_domain = dns_domain
        self.workloads: dict[Name, Workload] = {}
        self.by_service: dict[ServiceKey, dict[Name, tuple[Endpoint, ...]]] = {}
        self._read: dict[str, dict[Name, object]] = {POD: {}, SLICE: {}, NODE: {}}
        self._at: dict[str, dict[Name, Workload]] = defaultdict(dict)
        """By address, the Pods that have it and are not over."""
        self._service: dict[Name, ServiceKey] = {}
        """Of each slice that belongs to one."""
        self._behind: dict[Name, frozenset[Name | str]] = {}
        """Of each slice, the Pods that it names, and the addresses for which it names nobody."""
        self._slices: dict[Name | str, set[Name]] = defaultdict(set)
        """The other way round."""

    def refresh(self, objects: Objects) -> set[ServiceKey]:
        """Reads what is another object than before. The services whose endpoints are different now."""
        nodes = {name[1] for name in self._different(NODE, objects)}
        pods = self._different(POD, objects)
        if nodes:
            pods |= {name for name, pod in objects.get(POD, {}).items() if cast("Pod", pod).spec.node_name in nodes}
        slices = self._different(SLICE, objects)
        for kind in (POD, SLICE, NODE):
            self._read[kind] = dict(objects.get(kind, {}))
        return self._update(objects, pods, slices)

    def update(self, objects: Objects, pods: Iterable[Name], slices: Iterable[Name]) -> set[ServiceKey]:
        """Reads the objects of these names. The services whose endpoints are different now."""
        pods, slices = set(pods), set(slices)
        for kind, names in ((POD, pods), (SLICE, slices)):
            for name in names:
                found = objects.get(kind, {}).get(name)
                if found is None:
                    self._read[kind].pop(name, None)
                else:
                    self._read[kind][name] = found
        return self._update(objects, pods, slices)

    def endpoints(self, key: ServiceKey) -> Iterator[tuple[Endpoint, ...]]:
        """The service's endpoints, slice by slice in the order of their names."""
        for _, found in sorted(self.by_service.get(key, {}).items()):
            yield found

    def _update(self, objects: Objects, pods: Iterable[Name], slices: Iterable[Name]) -> set[ServiceKey]:
        due = set(slices)
        for name in pods:
            due |= self._read_pod(objects, name)
        return {key for name in due for key in self._read_slice(objects, name)}

    def _read_pod(self, objects: Objects, name: Name) -> set[Name]:
        """The slices that have to be read again."""
        pod = cast("Pod | None", objects.get(POD, {}).get(name))
        before, after = self.workloads.pop(name, None), None
        if pod is not None:
            node = cast("Node | None", objects.get(NODE, {}).get(("", pod.spec.node_name)))
            after = workload_of(
                pod, node, cluster=self._cluster, network=self._network, trust_domain=self._trust_domain
            )
            after = self.workloads[name] = before if before is not None and before == after else after
        had = [ip for ip in before.ips if name in self._at.get(ip, {})] if before is not None else []
        has = after.ips if after is not None and pod is not None and not pod.is_over else ()
        for ip in had:
            if ip not in has:
                del self._at[ip][name]
                if not self._at[ip]:
                    del self._at[ip]
        for ip in has:
            assert after is not None, "a Pod that is there is a workload"
            self._at[ip][name] = after
        if not self._slices or (before is after and set(had) == set(has)):
            return set()
        touched: tuple[Name | str, ...] = (name, *had, *has)
        return {slice_ for each in touched for slice_ in self._slices.get(each, ())}

    def _read_slice(self, objects: Objects, name: Name) -> Iterator[ServiceKey]:
        """The services that have other endpoints now: none, one, or two if the slice has gone from one to another."""
        slice_ = cast("EndpointSlice | None", objects.get(SLICE, {}).get(name))
        key = service_of(slice_, self._dns_domain) if slice_ is not None else None
        old = self._service.pop(name, None)
        before = self.by_service[old].pop(name) if old is not None else None
        if old is not None and not self.by_service[old]:
            del self.by_service[old]
        after = None
        if slice_ is not None and key is not None:
            after = endpoints_of(slice_, key, lambda endpoint, address: self._find(slice_, endpoint, address))
            after = before if before == after and before is not None else after
            self._service[name] = key
            self.by_service.setdefault(key, {})[name] = after
        self._index(name, slice_ if key is not None else None)
        if old is not None and (old != key or before != after):
            yield old
        if key is not None and old != key:
            yield key

    def _index(self, name: Name, slice_: EndpointSlice | None) -> None:
        behind = frozenset(_behind(slice_)) if slice_ is not None else frozenset[Name | str]()
        before = self._behind.pop(name, frozenset())
        for each in before - behind:
            self._slices[each].discard(name)
            if not self._slices[each]:
                del self._slices[each]
        for each in behind - before:
            self._slices[each].add(name)
        if behind:
            self._behind[name] = behind

    def _find(self, slice_: EndpointSlice, endpoint: SliceEndpoint, address: str) -> Workload:
        """By the Pod's name; by its address where the slice does not name it, and nobody where several have it (their Node's own)."""
        name = pod_named_by(slice_, endpoint)
        if name is not None:
            known = self.workloads.get(name)
        else:
            at = self._at.get(address, {})
            known = next(iter(at.values())) if len(at) == 1 else None
        if known is not None:
            return known
        namespace = Namespace(slice_.metadata.namespace)
        return address_only(address, cluster=self._cluster, network=self._network, namespace=namespace)

    def _different(self, kind: str, objects: Objects) -> set[Name]:
        known, there = self._read[kind], objects.get(kind, {})
        found = {name for name, each in there.items() if known.get(name) is not each}
        return found | {name for name in known if name not in there}


def _behind(slice_: EndpointSlice) -> Iterator[Name | str]:
    """The Pods that the slice names, and the addresses for which it names nobody."""
    for endpoint in slice_.endpoints or ():
        name = pod_named_by(slice_, endpoint)
        if name is not None:
            yield name
        else:
            yield from endpoint.addresses
