"""Who calls: the facts about a proxy that what it calls may depend on.

A proxy's labels matter only where some rule chooses callers by them (a Sidecar, a DestinationRule's workloadSelector, a VirtualService's
sourceLabels), so of a sidecar's labels no others enter its scope: workloads that no rule tells apart share their configuration.
"""

from __future__ import annotations

from dataclasses import replace

from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import Locality
from isthmus.model.views import Proxy, ProxyKind, Scope

_CLUSTER, _NETWORK = "topology.istio.io/cluster", "topology.istio.io/network"


def scope_for(proxy: Proxy, snapshot: Snapshot) -> Scope:
    """The proxy's scope, with the labels and claims that rules ask for, also labels that say where it is (Istio's label augmentation)."""
    scope = proxy.scope
    if snapshot.claim_keys:
        asked = tuple((key, value) for key, value in proxy.claims if key in snapshot.claim_keys)
        scope = replace(scope, claims=asked)
    if snapshot.some_stay_on_node:
        scope = replace(scope, node=proxy.node)
    if scope.kind is ProxyKind.ROUTER or not snapshot.selector_keys:
        return scope
    labels = dict(proxy.labels) | labels_of_place(scope)
    return replace(scope, labels=tuple(sorted((k, v) for k, v in labels.items() if k in snapshot.selector_keys)))


def labels_of_place(scope: Scope) -> dict[str, str]:
    """Where a proxy is, as labels; what is not known has none."""
    place: Locality = scope.locality
    where = {
        "topology.kubernetes.io/region": place.region,
        "topology.kubernetes.io/zone": place.zone,
        "topology.istio.io/subzone": place.subzone,
        _CLUSTER: scope.cluster,
        _NETWORK: scope.network,
    }
    return {key: value for key, value in where.items() if value}
