"""The columns that `kubectl get` shows of the built-in kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from isthmus.apiserver.selectors import text_of

Object = dict[str, Any]
Column = tuple[str, str, int, Callable[[Object], Any]]
"""Name, type, priority (1: `-o wide` only), value."""


def _age(obj: Object) -> str:
    return since(obj["metadata"].get("creationTimestamp") or "")


def since(stamp: str) -> str:
    if not stamp:
        return "<unknown>"
    return _duration(int((datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()))


def _duration(seconds: int) -> str:
    """As kubectl writes it: two units where the larger one is small."""
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def _get(obj: Object, *path: str, default: Any = "<none>") -> Any:
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None  # type: ignore[assignment]
    return default if obj in (None, "", [], {}) else obj


def _statuses(pod: Object) -> list[Object]:
    found = pod.get("status", {}).get("containerStatuses") or []
    return list(found)


def _ready(pod: Object) -> str:
    total = len(pod.get("spec", {}).get("containers") or ())
    return f"{sum(1 for status in _statuses(pod) if status.get('ready'))}/{total}"


def _pod_status(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason"):
            return str(waiting["reason"])
    return str(_get(pod, "status", "phase", default="Pending"))


def _restarts(pod: Object) -> str:
    return str(sum(status.get("restartCount", 0) for status in _statuses(pod)))


def _ports(service: Object) -> str:
    texts = []
    for port in service.get("spec", {}).get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or "<none>"


def _external(service: Object) -> str:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    found = [entry.get("ip") or entry.get("hostname") for entry in ingress]
    found += service.get("spec", {}).get("externalIPs") or ()
    if found:
        return ",".join(found)
    if service.get("spec", {}).get("type") == "ExternalName":
        return str(service["spec"].get("externalName", "<none>"))
    return "<pending>" if service.get("spec", {}).get("type") == "LoadBalancer" else "<none>"


def _labels(labels: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _slice_addresses(slice_: Object) -> str:
    found = [a for endpoint in slice_.get("endpoints") or () for a in endpoint.get("addresses", ())]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") if found else "<unset>"


def _slice_ports(slice_: Object) -> str:
    return ",".join(str(port.get("port")) for port in slice_.get("ports") or ()) or "<unset>"


def _node_status(node: Object) -> str:
    for condition in node.get("status", {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return "Ready" if condition.get("status") == "True" else "NotReady"
    return "Unknown"


def _internal_ip(node: Object) -> str:
    for address in node.get("status", {}).get("addresses") or ():
        if address.get("type") == "InternalIP":
            return str(address.get("address"))
    return "<none>"


def _asked_for(request: Object) -> str:
    seconds = _get(request, "spec", "expirationSeconds", default=None)
    return "<none>" if seconds is None else _duration(seconds)


def _bounds(quota: Object, *, is_limit: bool) -> str:
    """As kubectl tells it: how much of what is used."""
    hard, used = (_get(quota, "status", part, default={}) for part in ("hard", "used"))
    names = sorted(name for name in hard if name.startswith("limits.") is is_limit)
    return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)


def _decided(request: Object) -> str:
    """As kubectl tells it: what was decided, and whether there is a certificate."""
    types = [condition["type"] for condition in _get(request, "status", "conditions", default=())]
    told = [type_ for type_ in ("Approved", "Denied", "Failed") if type_ in types] or ["Pending"]
    return ",".join([*told, *(["Issued"] if _get(request, "status", "certificate", default="") else [])])


def _count(*path: str) -> Callable[[Object], Any]:
    return lambda obj: _get(obj, *path, default=0)


def _text(*path: str, default: str = "<none>") -> Callable[[Object], Any]:
    return lambda obj: str(_get(obj, *path, default=default))


def _list(found: Iterable[Any]) -> str:
    return ",".join(str(each) for each in found) or "<none>"


def _containers(obj: Object) -> list[Object]:
    return list(_get(obj, "spec", "template", "spec", "containers", default=[]))


def _ready_of_wanted(obj: Object) -> str:
    return f"{_get(obj, 'status', 'readyReplicas', default=0)}/{_get(obj, 'spec', 'replicas', default=0)}"


def _role(binding: Object) -> str:
    return f"{_get(binding, 'roleRef', 'kind')}/{_get(binding, 'roleRef', 'name')}"


def _subjects(kind: str) -> Callable[[Object], str]:
    def told(binding: Object) -> str:
        found = [each for each in binding.get("subjects") or () if each.get("kind") == kind]
        return ",".join(_in_namespace(each) for each in found)

    return told


def _in_namespace(subject: Object) -> str:
    return f"{subject['namespace']}/{subject['name']}" if subject.get("namespace") else str(subject["name"])


def _endpoints(obj: Object) -> str:
    found = [
        f"{address.get('ip')}:{port.get('port')}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    return _list(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")


def _since_last(event: Object) -> str:
    return since(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


def _since_first(event: Object) -> str:
    return since(event.get("firstTimestamp") or event.get("eventTime") or "")


def _about(event: Object) -> str:
    kind, name = (_get(event, "involvedObject", field, default="") for field in ("kind", "name"))
    return f"{kind.lower()}/{name}"


def _hosts(ingress: Object) -> str:
    return _list(rule["host"] for rule in _get(ingress, "spec", "rules", default=()) if rule.get("host")).replace(
        "<none>", "*"
    )


def _address(ingress: Object) -> str:
    found = _get(ingress, "status", "loadBalancer", "ingress", default=())
    return ",".join(str(each.get("ip") or each.get("hostname")) for each in found)


def _created(obj: Object) -> str:
    return str(obj["metadata"].get("creationTimestamp", "<unknown>"))


AGE: Column = ("Age", "string", 0, _age)
_CREATED: Column = ("Created At", "date", 0, _created)
_TEMPLATE: tuple[Column, ...] = (
    ("Containers", "string", 1, lambda o: _list(c["name"] for c in _containers(o))),
    ("Images", "string", 1, lambda o: _list(c.get("image", "") for c in _containers(o))),
)
_TEMPLATE_SELECTOR: Column = (
    "Selector",
    "string",
    1,
    lambda o: text_of(_get(o, "spec", "selector", default={})) or "<none>",
)
_BINDING: tuple[Column, ...] = (
    ("Role", "string", 0, _role),
    AGE,
    ("Users", "string", 1, _subjects("User")),
    ("Groups", "string", 1, _subjects("Group")),
    ("ServiceAccounts", "string", 1, _subjects("ServiceAccount")),
)
_WEBHOOKS: tuple[Column, ...] = (("Webhooks", "integer", 0, lambda o: len(o.get("webhooks") or ())), AGE)

OF_KIND: dict[str, tuple[Column, ...]] = {
    "Pod": (
        ("Ready", "string", 0, _ready),
        ("Status", "string", 0, _pod_status),
        ("Restarts", "string", 0, _restarts),
        AGE,
        ("IP", "string", 1, _text("status", "podIP")),
        ("Node", "string", 1, _text("spec", "nodeName")),
        ("Nominated Node", "string", 1, _text("status", "nominatedNodeName")),
        ("Readiness Gates", "string", 1, lambda _: "<none>"),
    ),
    "Service": (
        ("Type", "string", 0, _text("spec", "type")),
        ("Cluster-IP", "string", 0, _text("spec", "clusterIP")),
        ("External-IP", "string", 0, _external),
        ("Port(s)", "string", 0, _ports),
        AGE,
        ("Selector", "string", 1, lambda o: _labels(o.get("spec", {}).get("selector"))),
    ),
    "Deployment": (
        ("Ready", "string", 0, _ready_of_wanted),
        ("Up-to-date", "integer", 0, _count("status", "updatedReplicas")),
        ("Available", "integer", 0, _count("status", "availableReplicas")),
        AGE,
        *_TEMPLATE,
        _TEMPLATE_SELECTOR,
    ),
    "ReplicaSet": (
        ("Desired", "integer", 0, _count("spec", "replicas")),
        ("Current", "integer", 0, _count("status", "replicas")),
        ("Ready", "integer", 0, _count("status", "readyReplicas")),
        AGE,
        *_TEMPLATE,
        _TEMPLATE_SELECTOR,
    ),
    "Scale": (
        ("Desired", "integer", 0, _count("spec", "replicas")),
        ("Available", "integer", 0, _count("status", "replicas")),
        AGE,
    ),
    "StatefulSet": (("Ready", "string", 0, _ready_of_wanted), AGE, *_TEMPLATE),
    "DaemonSet": (
        ("Desired", "integer", 0, _count("status", "desiredNumberScheduled")),
        ("Current", "integer", 0, _count("status", "currentNumberScheduled")),
        ("Ready", "integer", 0, _count("status", "numberReady")),
        ("Up-to-date", "integer", 0, _count("status", "updatedNumberScheduled")),
        ("Available", "integer", 0, _count("status", "numberAvailable")),
        (
            "Node Selector",
            "string",
            0,
            lambda o: _labels(_get(o, "spec", "template", "spec", "nodeSelector", default={})),
        ),
        AGE,
        *_TEMPLATE,
        _TEMPLATE_SELECTOR,
    ),
    "Namespace": (("Status", "string", 0, _text("status", "phase")), AGE),
    "Node": (
        ("Status", "string", 0, _node_status),
        ("Roles", "string", 0, lambda _: "<none>"),
        AGE,
        ("Version", "string", 0, _text("status", "nodeInfo", "kubeletVersion", default="")),
        ("Internal-IP", "string", 1, _internal_ip),
    ),
    "ConfigMap": (("Data", "integer", 0, lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {})), AGE),
    "Secret": (
        ("Type", "string", 0, lambda o: o.get("type", "")),
        ("Data", "integer", 0, lambda o: len(o.get("data") or {})),
        AGE,
    ),
    "Endpoints": (("Endpoints", "string", 0, _endpoints), AGE),
    "EndpointSlice": (
        ("AddressType", "string", 0, lambda o: o.get("addressType", "")),
        ("Ports", "string", 0, _slice_ports),
        ("Endpoints", "string", 0, _slice_addresses),
        AGE,
    ),
    "Lease": (("Holder", "string", 0, _text("spec", "holderIdentity", default="")), AGE),
    "Event": (
        ("Last Seen", "string", 0, _since_last),
        ("Type", "string", 0, lambda o: o.get("type", "")),
        ("Reason", "string", 0, lambda o: o.get("reason", "")),
        ("Object", "string", 0, _about),
        ("Subobject", "string", 1, _text("involvedObject", "fieldPath", default="")),
        ("Source", "string", 1, _text("source", "component", default="")),
        ("Message", "string", 0, lambda o: str(o.get("message", "")).strip()),
        ("First Seen", "string", 1, _since_first),
        ("Count", "integer", 1, lambda o: o.get("count") or 1),
        ("Name", "string", 1, lambda o: o["metadata"]["name"]),
    ),
    "Role": (_CREATED,),
    "ClusterRole": (_CREATED,),
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "CustomResourceDefinition": (_CREATED,),
    "MutatingWebhookConfiguration": _WEBHOOKS,
    "ValidatingWebhookConfiguration": _WEBHOOKS,
    "Ingress": (
        ("Class", "string", 0, _text("spec", "ingressClassName")),
        ("Hosts", "string", 0, _hosts),
        ("Address", "string", 0, _address),
        ("Ports", "string", 0, lambda o: "80, 443" if _get(o, "spec", "tls", default=()) else "80"),
        AGE,
    ),
    "PodDisruptionBudget": (
        ("Min Available", "string", 0, _text("spec", "minAvailable", default="N/A")),
        ("Max Unavailable", "string", 0, _text("spec", "maxUnavailable", default="N/A")),
        ("Allowed Disruptions", "integer", 0, _count("status", "disruptionsAllowed")),
        AGE,
    ),
    "NetworkPolicy": (
        ("Pod-Selector", "string", 0, lambda o: _labels(_get(o, "spec", "podSelector", "matchLabels", default={}))),
        AGE,
    ),
    "CertificateSigningRequest": (
        AGE,
        ("SignerName", "string", 0, _text("spec", "signerName")),
        ("Requestor", "string", 0, _text("spec", "username")),
        ("RequestedDuration", "string", 0, _asked_for),
        ("Condition", "string", 0, _decided),
    ),
    "ResourceQuota": (
        ("Request", "string", 0, lambda o: _bounds(o, is_limit=False)),
        ("Limit", "string", 0, lambda o: _bounds(o, is_limit=True)),
        AGE,
    ),
}
