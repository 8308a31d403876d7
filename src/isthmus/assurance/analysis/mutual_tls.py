"""Mutual TLS as clients are told to speak it against what workloads accept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.assurance.analysis.hosts import Hosts
from isthmus.assurance.analysis.items import Index, Item, Labels, Object, selects
from isthmus.assurance.catalogue import policies as codes
from isthmus.model.issues import Issue

_PLAIN = ("DISABLE", "SIMPLE", "MUTUAL")


def conflicts(index: Index) -> Iterator[Issue]:
    policies = index.each("PeerAuthentication")
    if not policies:
        return
    hosts = Hosts(index)
    for rule in index.each("DestinationRule"):
        tls = (rule.spec.get("trafficPolicy") or {}).get("tls")
        for known in hosts.named(rule.spec.get("host") or "", rule.namespace) if tls else ():
            service = known.source
            if service.kind == "Service" and not (rule.spec.get("host") or "").startswith("*"):
                yield from _conflict(index, policies, rule, service, tls or {})


def _conflict(index: Index, policies: Sequence[Item], rule: Item, service: Item, tls: Object) -> Iterator[Issue]:
    selector = service.spec.get("selector") or {}
    pods = index.pods(service.namespace, selector) if selector else []
    mode = tls.get("mode") or "DISABLE"
    for pod in pods:
        accepted, policy = _accepted(index, policies, service.namespace, pod.labels)
        if policy is None:
            continue
        if (accepted == "STRICT" and mode in _PLAIN) or (accepted == "DISABLE" and mode == "ISTIO_MUTUAL"):
            what = f"tls.mode is {mode}, but PeerAuthentication {policy.full_name} makes Pod {pod.name} {accepted}"
            yield rule.finding(codes.MTLS_CONFLICT, what, path="spec.trafficPolicy.tls")
            return


def _accepted(index: Index, policies: Sequence[Item], namespace: str, labels: Labels) -> tuple[str, Item | None]:
    """The most specific policy that says something: of the workload, of its namespace, of the mesh. Ports of their own are left alone."""
    levels: list[list[Item]] = [[], [], []]
    for policy in policies:
        chosen = (policy.spec.get("selector") or {}).get("matchLabels") or {}
        if policy.namespace == namespace and chosen:
            levels[0] += [policy] if selects(chosen, labels) and not policy.spec.get("portLevelMtls") else []
        elif policy.namespace == namespace:
            levels[1].append(policy)
        elif policy.namespace == index.settings.root_namespace and not chosen:
            levels[2].append(policy)
    for level in levels:
        for policy in level:
            mode = (policy.spec.get("mtls") or {}).get("mode") or "UNSET"
            if mode != "UNSET":
                return mode, policy
    return "", None
