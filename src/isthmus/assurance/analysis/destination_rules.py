"""DestinationRules and the workloads that they are about."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.analysis.hosts import Hosts, KnownHost
from isthmus.assurance.analysis.items import Index, Item, Labels, Object, selects
from isthmus.assurance.catalogue import routing as codes
from isthmus.ingest.labels import CLUSTER, NETWORK
from isthmus.model.issues import Issue

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
# What a control plane adds to a workload's labels by itself.
_ADDED = {CLUSTER, NETWORK, *_TOPOLOGY, "kubernetes.io/hostname"}


def server_verification(index: Index) -> Iterator[Issue]:
    """TLS without an authority of its own: the system's are believed, and Istio's older proxies believe anybody."""
    for rule in index.each("DestinationRule"):
        policies = [("spec.trafficPolicy", rule.spec.get("trafficPolicy") or {})]
        policies += [
            (f"spec.subsets[{number}].trafficPolicy", subset.get("trafficPolicy") or {})
            for number, subset in enumerate(rule.spec.get("subsets") or [])
        ]
        for path, policy in policies:
            if _names_no_authority(policy.get("tls"), rule):
                yield rule.finding(
                    codes.NO_CA_FOR_HOST,
                    f"tls.mode is {policy['tls']['mode']}, and no authority is named for {rule.spec.get('host')}: "
                    "the system's are believed",
                    path=f"{path}.tls",
                )
            for number, setting in enumerate(policy.get("portLevelSettings") or []):
                if _names_no_authority(setting.get("tls"), rule):
                    port = (setting.get("port") or {}).get("number")
                    yield rule.finding(
                        codes.NO_CA_FOR_PORT,
                        f"tls.mode is {setting['tls']['mode']}, and no authority is named for port {port} of "
                        f"{rule.spec.get('host')}: the system's are believed",
                        path=f"{path}.portLevelSettings[{number}].tls",
                    )


def _names_no_authority(tls: Object | None, rule: Item) -> bool:
    """A credential's authority is read at gateways, and for chosen workloads."""
    if not tls or tls.get("mode") not in ("SIMPLE", "MUTUAL") or tls.get("caCertificates"):
        return False
    return not (tls.get("credentialName") and rule.spec.get("workloadSelector"))


def subset_workloads(index: Index) -> Iterator[Issue]:
    hosts = Hosts(index)
    for rule in index.each("DestinationRule"):
        host = rule.spec.get("host") or ""
        known = [each for each in hosts.named(host, rule.namespace) if each.is_seen_from(rule.namespace)]
        if not known and not host.startswith("*"):
            yield rule.finding(codes.UNKNOWN_RULE_HOST, f"there is no host {host}", path="spec.host")
            continue
        for number, subset in enumerate(rule.spec.get("subsets") or []):
            labels = subset.get("labels") or {}
            services = [each for each in known if each.source.kind == "Service" and each.source.spec.get("selector")]
            if labels and services and len(services) == len(known) and not any(
                _has_workload(index, each, labels) for each in services
            ):  # fmt: skip
                shown = ", ".join(f"{key}={value}" for key, value in labels.items())
                yield rule.finding(
                    codes.SUBSET_SELECTS_NOBODY,
                    f"subset {subset.get('name')}: no Pod of {host} has the labels {shown}",
                    path=f"spec.subsets[{number}].labels",
                )


def _has_workload(index: Index, known: KnownHost, labels: Labels) -> bool:
    selector = known.source.spec["selector"]
    return any(selects(labels, _labels_of(index, pod)) for pod in index.pods(known.source.namespace, selector))


def _labels_of(index: Index, pod: Item) -> Labels:
    """With what the control plane adds: the labels of its Node's place, its cluster and network."""
    node = index.nodes.get((pod.cluster, pod.spec.get("nodeName") or ""))
    place = {key: node.labels[key] for key in _ADDED if node is not None and node.labels.get(key)}
    return {**place, **({CLUSTER: pod.cluster} if pod.cluster else {}), **pod.labels}
