"""DestinationRules become values. What this version does not do is an issue, field by field, and the rest of the rule counts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from isthmus.api import networking as api
from isthmus.ingest import labels
from isthmus.ingest.traffic_policies import PolicyReader
from isthmus.model.durations import seconds_of
from isthmus.model.issues import Issue, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace
from isthmus.model.traffic import DestinationRule, Subset, Wishes

_SUBSET = re.compile(r"[A-Za-z0-9_.-]{1,63}")
"""Part of a server name, by which gateways of networks are asked for it."""


def destination_rule_of(
    obj: api.DestinationRule, cluster: ClusterId, dns_domain: str
) -> tuple[DestinationRule, tuple[Issue, ...]]:
    """With an issue for each field that has no effect."""
    spec = obj.spec
    subject = Subject(cluster, "DestinationRule", obj.metadata.namespace, obj.metadata.name)
    reader = PolicyReader(subject, chooses_callers=spec.workload_selector is not None)
    namespace = Namespace(obj.metadata.namespace)
    policy, ports = reader.policy(spec.traffic_policy, "spec.trafficPolicy")
    subsets = []
    for index, subset in enumerate(spec.subsets):
        if not _SUBSET.fullmatch(subset.name):
            reader.not_done(
                f"spec.subsets[{index}].name", f"{subset.name!r:.60} cannot be the name of a subset: it is left out"
            )
            continue
        own, own_ports = reader.policy(subset.traffic_policy, f"spec.subsets[{index}].trafficPolicy")
        chosen = tuple(sorted(subset.labels.items()))
        subsets.append(Subset(name=subset.name, labels=chosen, policy=own, port_policies=own_ports))
    rule = DestinationRule(
        created=obj.metadata.creation_timestamp,
        namespace=namespace,
        name=obj.metadata.name,
        host=full_name(spec.host, namespace, dns_domain),
        policy=policy,
        port_policies=ports,
        subsets=tuple(subsets),
        export_to=tuple(spec.export_to),
        wishes=wishes_of(obj.metadata.annotations),
        selector=tuple(sorted(spec.workload_selector.match_labels.items())) if spec.workload_selector else (),
    )
    return rule, tuple(reader.issues)


def wishes_of(annotations: Mapping[str, str]) -> Wishes:
    """Of a Service or a DestinationRule. What is neither true nor false, or no duration, says nothing."""
    said = {"true": True, "false": False}
    try:
        hedge_after = seconds_of(annotations[labels.HEDGE_AFTER])
    except (KeyError, ValueError):
        hedge_after = None
    return Wishes(
        said.get(annotations.get(labels.PREFER_LOCAL_CLUSTER, "").lower()),
        said.get(annotations.get(labels.LOCALITY_FAILOVER, "").lower()),
        hedge_after,
    )


def full_name(host: str, namespace: Namespace, dns_domain: str) -> Hostname:
    """A name without a dot is a Service of the object's own namespace. One that ends in a dot is whole, and the same name without it."""
    if "." in host or host.startswith("*"):
        return Hostname(host.lower().removesuffix("."))
    return Hostname(f"{host}.{namespace}.svc.{dns_domain}".lower())
