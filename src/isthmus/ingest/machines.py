"""Machines: hosts outside every cluster, of which a WorkloadGroup says what they are, and a WorkloadEntry where they are.

A machine that connects and names its group is registered: there is an entry for it for as long as it is connected, and a little longer. The
group says which account it has to prove, and what its entry says of it: what a machine claims adds its address, and no label that the group
does not leave to it. Otherwise whoever may run one machine of a namespace could answer for every service there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isthmus.api.networking import Condition, WorkloadEntry, WorkloadGroup
from isthmus.ingest import labels
from isthmus.ingest.inputs import Objects
from isthmus.model.names import ClusterId, NetworkId
from isthmus.model.topology import Locality
from isthmus.model.values import dataclass
from isthmus.model.views import Proxy
from isthmus.model.workloads import Health

GROUP = "istio.io/autoRegistrationGroup"
CONTROLLER = "istio.io/workloadController"
CONNECTED_AT = "istio.io/connectedAt"
DISCONNECTED_AT = "istio.io/disconnectedAt"
HEALTH_IS_CHECKED = "proxy.istio.io/health-checks-enabled"
LABELS_LEFT_TO_MACHINES = "isthmus.io/machine-labels"
"""On a WorkloadGroup: the labels that its machines say themselves, by name, with commas in between."""

HEALTHY = "Healthy"
_NAME_MAX = 253

Object = dict[str, Any]


class NotRegistered(ValueError):
    """A machine that may not be one of the group that it names; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One machine's entry, as it should be. `spec` and `annotations` are as an API server has them."""

    cluster: ClusterId
    namespace: str
    name: str
    group: str
    group_uid: str
    labels: tuple[tuple[str, str], ...]
    network: NetworkId
    locality: Locality
    spec: Object
    annotations: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def placed(self, proxy: Proxy) -> Proxy:
        """The machine's proxy is where its entry says that it is."""
        scope = replace(proxy.scope, network=self.network, locality=self.locality)
        return replace(proxy, scope=scope, labels=self.labels)

    def entry(self) -> Object:
        """A new one; it goes when its group goes."""
        owner = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "name": self.group}
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
                "ownerReferences": [{**owner, "uid": self.group_uid, "controller": True}],
            },
            "spec": self.spec,
        }


def registration_of(proxy: Proxy, metadata: Mapping[str, object], objects: Objects) -> Registration | None:
    """What the proxy is to be registered as; None for one that names no group. `objects` are its cluster's. Raises NotRegistered."""
    name = str(metadata.get("AUTO_REGISTER_GROUP") or "")
    if not name:
        return None
    namespace = proxy.scope.namespace
    group = objects.get("WorkloadGroup", {}).get((namespace, name))
    if not isinstance(group, WorkloadGroup):
        raise NotRegistered(f"cluster {proxy.cluster} has no WorkloadGroup {namespace}/{name}")
    account = group.spec.template.service_account or "default"
    proved = proxy.identity.service_account if proxy.identity else None
    if proved != (namespace, account):
        shown = "/".join(proved) if proved else "nobody"
        raise NotRegistered(
            f"machines of WorkloadGroup {namespace}/{name} have the account {namespace}/{account}, not {shown}"
        )
    registration = _registration(proxy, group, checks_health=_checks_health(metadata))
    known = objects.get("WorkloadEntry", {}).get(registration.key)
    if isinstance(known, WorkloadEntry) and known.metadata.annotations.get(GROUP) != name:
        raise NotRegistered(
            f"WorkloadEntry {namespace}/{registration.name} was not made for a machine of WorkloadGroup {name}"
        )
    return registration


def health_of_entry(entry: WorkloadEntry) -> Health:
    """A machine that checks its application's health is unhealthy until it has said otherwise."""
    if entry.metadata.annotations.get(HEALTH_IS_CHECKED, "").lower() != "true":
        return Health.HEALTHY
    told = condition_of(entry)
    return Health.HEALTHY if told is not None and told.status == "True" else Health.UNHEALTHY


def condition_of(entry: WorkloadEntry) -> Condition | None:
    """What was told of its health."""
    return next((each for each in entry.status.conditions if each.type == HEALTHY), None)


def entry_name(group: str, address: str, network: str) -> str:
    """As Istio has it: the end counts where it would be too long."""
    parts = [group, address.replace(":", "-"), *([network] if network else [])]
    return "-".join(parts)[-_NAME_MAX:].lstrip("-.")


def _registration(proxy: Proxy, group: WorkloadGroup, *, checks_health: bool) -> Registration:
    template, metadata = group.spec.template, group.spec.metadata
    own = group.metadata.annotations.get(LABELS_LEFT_TO_MACHINES, "")
    left_to_it = {name.strip() for name in own.split(",")}
    said = {name: value for name, value in proxy.labels if name in left_to_it}
    found = {**said, **template.labels, **metadata.labels}
    network = NetworkId(template.network or found.get(labels.NETWORK) or proxy.scope.network)
    locality = proxy.scope.locality
    if not str(locality) and template.locality:
        locality = Locality.parse(template.locality)
    address = proxy.ips[0]
    spec: Object = {
        "address": address,
        "ports": dict(template.ports),
        "labels": found,
        "network": network,
        "locality": str(locality),
        "weight": template.weight,
        "serviceAccount": template.service_account or "default",
    }
    return Registration(
        cluster=proxy.cluster,
        namespace=proxy.scope.namespace,
        name=entry_name(group.metadata.name, address, network),
        group=group.metadata.name,
        group_uid=group.metadata.uid,
        labels=tuple(sorted(found.items())),
        network=network,
        locality=locality,
        spec={key: value for key, value in spec.items() if value},
        annotations={
            **metadata.annotations,
            GROUP: group.metadata.name,
            **({HEALTH_IS_CHECKED: "true"} if checks_health else {}),
        },
    )


def _checks_health(metadata: Mapping[str, object]) -> bool:
    """Whether its agent asks its application how it is, as Istio's agents say it."""
    config = metadata.get("PROXY_CONFIG")
    return isinstance(config, Mapping) and bool(config.get("readinessProbe"))
