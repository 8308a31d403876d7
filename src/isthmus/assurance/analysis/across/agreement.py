"""Primary clusters that should say the same, and do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from isthmus.assurance.analysis.across.trust import mesh_config_of
from isthmus.assurance.analysis.across.whole_mesh import WholeMesh
from isthmus.assurance.analysis.hosts import full_host
from isthmus.assurance.analysis.items import Index, Item, Object, listed, selects
from isthmus.assurance.catalogue import mesh as codes
from isthmus.assurance.catalogue.code import Code
from isthmus.model.issues import Issue

_KINDS: tuple[tuple[str, str, Code], ...] = (
    ("PeerAuthentication", "", codes.MTLS_DIFFERS),
    ("AuthorizationPolicy", "", codes.POLICY_MISSING),
    ("RequestAuthentication", "", codes.POLICY_MISSING),
    ("VirtualService", "", codes.CONFIGURATION_DIFFERS),
    ("DestinationRule", "", codes.CONFIGURATION_DIFFERS),
    ("ServiceEntry", "", codes.CONFIGURATION_DIFFERS),
    ("Sidecar", "", codes.CONFIGURATION_DIFFERS),
)
_MUST_AGREE = (
    "rootNamespace", "enableAutoMtls", "localityLbSetting", "outboundTrafficPolicy", "defaultServiceExportTo",
    "defaultVirtualServiceExportTo", "defaultDestinationRuleExportTo", "serviceSettings", "extensionProviders",
)  # fmt: skip


def rules(mesh: WholeMesh) -> Iterator[Issue]:
    """One finding for each object that a primary does not have, or has otherwise."""
    if len(mesh.primaries) < 2:
        return
    for kind, group, code in _KINDS:
        by_name: dict[str, dict[str, Item]] = defaultdict(dict)
        for index in mesh.primaries:
            for item in index.each(kind, group):
                by_name[item.full_name][index.cluster] = item
        for name, found in sorted(by_name.items()):
            yield from _differing(mesh, kind, name, found, code)


def _differing(mesh: WholeMesh, kind: str, name: str, found: dict[str, Item], code: Code) -> Iterator[Issue]:
    first_cluster, first = next(iter(found.items()))
    missing = [index.cluster for index in mesh.primaries if index.cluster not in found]
    other = [cluster for cluster, item in found.items() if item.spec != first.spec]
    said = [f"is not in {', '.join(missing)}"] if missing else []
    said += [f"is different in {', '.join(other)}"] if other else []
    if said and not (kind == "DestinationRule" and _subsets(first) and other):
        yield first.finding(code, f"{' and '.join(said)} (compared with {first_cluster})")


def _subsets(rule: Item) -> dict[str, Any]:
    return {subset.get("name") or "": subset.get("labels") or {} for subset in rule.spec.get("subsets") or []}


def subsets_of_rules(mesh: WholeMesh) -> Iterator[Issue]:
    """A gateway passes a subset through under the name that its own control plane knows."""
    by_host: dict[str, dict[str, tuple[Item, dict[str, Any]]]] = defaultdict(dict)
    for index in mesh.primaries:
        for rule in index.each("DestinationRule"):
            host = full_host(rule.spec.get("host") or "", rule.namespace)
            known = by_host[host].get(index.cluster)
            merged = {**(known[1] if known else {}), **_subsets(rule)}
            by_host[host][index.cluster] = (known[0] if known else rule, merged)
    for host, found in sorted(by_host.items()):
        names = set().union(*(subsets for _, subsets in found.values()))
        for name in sorted(names):
            without = [index.cluster for index in mesh.primaries if name not in found.get(index.cluster, (None, {}))[1]]
            rule = next(rule for rule, subsets in found.values() if name in subsets)
            if without and len(mesh.primaries) > 1:
                what = f"subset {name} of {host} is not known to the control plane of {', '.join(without)}"
                yield rule.finding(codes.RULE_DIFFERS, what, path="spec.subsets")


def subset_workloads(mesh: WholeMesh) -> Iterator[Issue]:
    """A subset with Pods in some of the clusters that have the service."""
    if len(mesh.indexes) < 2:
        return
    for rule in mesh.config.each("DestinationRule"):
        host = full_host(rule.spec.get("host") or "", rule.namespace)
        name, _, rest = host.partition(".")
        namespace = rest.partition(".")[0]
        for number, subset in enumerate(rule.spec.get("subsets") or []):
            labels = subset.get("labels") or {}
            if any(key.startswith("topology.") for key in labels):
                continue
            with_service = [index for index in mesh.indexes if _pods_of(index, namespace, name)]
            has = [
                index
                for index in with_service
                if any(selects(labels, pod.labels) for pod in _pods_of(index, namespace, name))
            ]
            if has and len(has) < len(with_service):
                without = ", ".join(index.cluster for index in with_service if index not in has)
                yield rule.finding(
                    codes.SUBSET_MISSING_ELSEWHERE, f"subset {subset.get('name')} of {host} has no Pod in {without}",
                    path=f"spec.subsets[{number}]",
                )  # fmt: skip


def _pods_of(index: Index, namespace: str, name: str) -> Sequence[Item]:
    service = index.get("Service", namespace, name)
    selector = service.spec.get("selector") if service else None
    if not selector:
        return ()
    return [pod for pod in index.each("Pod") if pod.namespace == namespace and selects(selector, pod.labels)]


def mesh_settings(mesh: WholeMesh) -> Iterator[Issue]:
    known = {index.cluster: mesh_config_of(index) for index in mesh.primaries}
    given = {cluster: config for cluster, config in known.items() if config}
    for name in _MUST_AGREE if len(given) > 1 else ():
        values = {cluster: config.get(name) for cluster, config in given.items()}
        first_cluster, first = next(iter(values.items()))
        others = [cluster for cluster, value in values.items() if value != first]
        if others:
            yield mesh.finding(
                codes.MESHES_DIFFER,
                "MeshConfig",
                name,
                f"is {_shown(first)} in {first_cluster}, and not so in {listed(others)}",
            )


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def inert_localities(mesh: WholeMesh) -> Iterator[Issue]:
    """Settings of the whole mesh about localities that nothing makes count."""
    setting: Object = mesh.settings.mesh_config.get("localityLbSetting") or {}
    rules_ = mesh.config.each("DestinationRule")
    noticed = any(_notices_failure(rule) for rule in rules_)
    wants = setting.get("failover") or setting.get("failoverPriority")
    if wants and not noticed:
        yield mesh.finding(
            codes.LOCALITY_IS_INERT, "MeshConfig", "localityLbSetting", "has failover, but no DestinationRule has outlierDetection",
            "Set outlierDetection for the hosts that are to fail over.",
        )  # fmt: skip
    uses = bool(wants or setting.get("distribute")) or any(_has_locality(rule) for rule in rules_)
    nodes = [node for index in mesh.indexes for node in index.each("Node")]
    without = [node.name for node in nodes if not node.labels.get("topology.kubernetes.io/region")]
    if uses and nodes and without:
        yield mesh.finding(
            codes.LOCALITY_IS_INERT, "Node", without[0], f"locality settings need regions, which {listed(without)} do not have",
            "Give every Node the labels topology.kubernetes.io/region and topology.kubernetes.io/zone.",
        )  # fmt: skip


def _policies(rule: Item) -> Iterator[Object]:
    for holder in [rule.spec, *(rule.spec.get("subsets") or [])]:
        policy = holder.get("trafficPolicy") or {}
        yield policy
        yield from policy.get("portLevelSettings") or []


def _notices_failure(rule: Item) -> bool:
    return any(policy.get("outlierDetection") is not None for policy in _policies(rule))


def _has_locality(rule: Item) -> bool:
    return any((policy.get("loadBalancer") or {}).get("localityLbSetting") for policy in _policies(rule))
