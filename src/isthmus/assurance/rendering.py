"""Rendering: what one proxy would be given. The same functions that serve proxies, asked without a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.api.core import Pod
from isthmus.assurance.compiling import computed
from isthmus.assurance.scenario import BadScenario, Scenario
from isthmus.envoy.patches.values import issues_of
from isthmus.ingest.labels import NETWORK
from isthmus.ingest.proxies import BadClaims, placed, proxy_of
from isthmus.model.names import ClusterId
from isthmus.model.proxy_config import NOTHING_SAID
from isthmus.model.proxy_config_words import written
from isthmus.model.topology import Locality
from isthmus.model.views import Destination, LocalityGroup, Proxy, Upstream, View

Object = dict[str, Any]

PARTS = ("listeners", "routes", "clusters", "endpoints", "nameTable")


def render(
    scenario: Scenario, node: Mapping[str, Any], *, only: Iterable[str] = PARTS, explain: bool = False
) -> Object:
    """The document for the proxy that would send this xDS Node (proto3 JSON). Raises BadScenario for a node that says too little."""
    snapshot = scenario.snapshot()
    found = computed(proxy_in(scenario, node), snapshot)
    document = found.document(dict(node))
    kept = {part: document[part] for part in PARTS if part in set(only)}
    issues = (*issues_of(snapshot), *found.lost)
    warnings = [*scenario.warnings, *(f"{issue.subject}: {issue.what}; {issue.fix}" for issue in issues)]
    answer = {"node": document["node"], **kept, "warnings": warnings}
    if not explain:
        return answer
    from isthmus.assurance.explaining.derivations import derivations  # Not before it is asked for: imports take time.

    return answer | {"explanation": explanation(found.view), "derivations": derivations(found.view)}


def proxy_in(scenario: Scenario, node: Mapping[str, Any]) -> Proxy:
    """The proxy as its control plane would know it."""
    locality = node.get("locality") or {}
    where = Locality(*(str(locality.get(key, "")) for key in ("region", "zone", "subZone")))
    if locality.get("sub_zone"):
        where = Locality(where.region, where.zone, str(locality["sub_zone"]))
    try:
        proxy = proxy_of(str(node.get("id", "")), node.get("metadata") or {}, where, None)
    except BadClaims as error:
        raise BadScenario(f"node: {error}") from None
    cluster = scenario.cluster(proxy.cluster)
    return placed(proxy, cluster.objects) if cluster is not None else proxy


def node_of(scenario: Scenario, name: str, cluster: str) -> Object:
    """The xDS Node of `TYPE/POD.NAMESPACE`, as the agent beside that Pod would send it. Raises BadScenario."""
    kind, _, rest = name.partition("/")
    pod_name, _, namespace = rest.rpartition(".")
    found = next((entry for entry in scenario.clusters if entry.id == cluster), None)
    if found is None:
        raise BadScenario(f"--in-cluster: {cluster!r} is not among the clusters")
    pod = found.objects.get("Pod", {}).get((namespace, pod_name))
    if kind not in ("sidecar", "router") or not isinstance(pod, Pod):
        pods = ", ".join(f"{n}.{ns}" for ns, n in sorted(found.objects.get("Pod", {}))) or "none"
        raise BadScenario(
            f"--proxy: {name!r} is not sidecar|router/POD.NAMESPACE of a Pod in {cluster}; there is: {pods}"
        )
    return {
        "id": f"{kind}~{next(iter(pod.ips), '')}~{pod_name}.{namespace}~{namespace}.svc.cluster.local",
        "metadata": {
            "CLUSTER_ID": cluster,
            "NAMESPACE": namespace,
            "NETWORK": pod.metadata.labels.get(NETWORK) or scenario.snapshot().clusters[found.id].network,
            "LABELS": dict(pod.metadata.labels),
            "INSTANCE_IPS": ",".join(pod.ips),
            "SERVICE_ACCOUNT": pod.spec.service_account_name,
            **_proxy_config(pod, scenario),
        },
    }


def _proxy_config(pod: Pod, scenario: Scenario) -> Object:
    """How the proxy would be run that the Pod were given now. An annotation that cannot be used would have kept the Pod away."""
    own = NOTHING_SAID
    if pod.metadata.annotations:
        from isthmus.injection.settings import BadRequest, own_proxy_config  # Most Pods say nothing: imports take time.

        with contextlib.suppress(BadRequest):
            own, _ = own_proxy_config(pod.metadata.annotations)
    found = scenario.snapshot().proxy_configs.for_workload(pod.metadata.namespace, pod.metadata.labels, own)
    return {"PROXY_CONFIG": written(found)} if found != NOTHING_SAID else {}


def client_in(scenario: Scenario, name: str, cluster: str) -> Object:
    """The xDS Node of a client as people name it: `POD` or `POD.NAMESPACE`, or the beginning of its name. Raises BadScenario."""
    found = [
        (entry.id, namespace, pod)
        for entry in scenario.clusters
        for namespace, pod in sorted(entry.objects.get("Pod", {}))
        if cluster in ("", entry.id)
    ]
    named = [(c, ns, pod) for c, ns, pod in found if name in (pod, f"{pod}.{ns}")]
    wanted, _, where = name.rpartition(".")
    begun = [
        (c, ns, pod)
        for c, ns, pod in found
        if pod.startswith(f"{name}-") or (ns == where and pod.startswith(f"{wanted}-"))
    ]
    clients = named or begun
    if len({c for c, _, _ in clients}) == 1:
        where, namespace, pod = clients[0]
        kind = "router" if _is_gateway(scenario, where, namespace, pod) else "sidecar"
        return node_of(scenario, f"{kind}/{pod}.{namespace}", where)
    shown = ", ".join(f"{pod}.{ns} in {c}" for c, ns, pod in clients or found) or "none"
    raise BadScenario(
        f"{name!r} is not one Pod{f' of {cluster}' if cluster else ''}: say which, with --in-cluster; there is: {shown}"
    )


def _is_gateway(scenario: Scenario, cluster: ClusterId, namespace: str, pod: str) -> bool:
    """A Pod that some Gateway selects."""
    snapshot = scenario.snapshot()
    entry = scenario.cluster(cluster)
    found = entry.objects.get("Pod", {}).get((namespace, pod)) if entry else None
    labels = set(found.metadata.labels.items()) if isinstance(found, Pod) else set()
    selectors = [*(each.selector for each in snapshot.exposures), *(each.selector for each in snapshot.servers)]
    return any(selector and set(selector) <= labels for selector in selectors)


def explanation(view: View) -> list[Object]:
    """For each upstream: the destinations that are given, by which way, and the endpoints that are left out, with the reason."""
    return [_explained(upstream) for upstream in view.outbound.upstreams]


def _explained(upstream: Upstream) -> Object:
    return {
        "cluster": upstream.name,
        "service": f"{upstream.service.namespace}/{upstream.service.name}",
        "declaredIn": list(upstream.service.declared_in),
        "given": [_destination(group, destination) for group in upstream.groups for destination in group.destinations],
        "leftOut": [
            {
                "address": left.endpoint.ip,
                "workload": f"{left.endpoint.workload.namespace}/{left.endpoint.workload.name}",
                "cluster": left.endpoint.cluster,
                "network": left.endpoint.network,
                "reason": left.why.reason.value,
                "detail": left.why.detail,
            }
            for left in upstream.left_out
        ],
    }


def _destination(group: LocalityGroup, destination: Destination) -> Object:
    gateway = destination.through
    return {
        "address": f"{destination.address}:{destination.port}",
        "weight": destination.weight,
        "priority": group.priority,
        "locality": str(group.locality),
        "mutualTLS": destination.mutual_tls,
        "way": f"through the gateway of network {gateway.network}" if gateway else "direct",
        "standsFor": [
            f"{endpoint.cluster}/{endpoint.workload.namespace}/{endpoint.workload.name} {endpoint.ip}"
            for endpoint in destination.stands_for
        ],
    }
