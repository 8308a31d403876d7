"""Tables: the columns that `kubectl get` shows for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from isthmus.apiserver import json_paths
from isthmus.apiserver.kinds import Kind

_encode = msgspec.json.Encoder().encode

Object = dict[str, Any]
Column = tuple[str, str, int, Callable[[Object], Any]]
"""Name, type, priority (1: `-o wide` only), value."""


def table(
    kind: Kind, objects: Sequence[Object], version: str, *, head: bool, remaining: dict[str, Any] | None = None
) -> Object:
    """A Table with a row for each object. `head` says whether column definitions are wanted (a watch has them once)."""
    columns = columns_of(kind)
    definitions = [
        {
            "name": name,
            "type": type_,
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for name, type_, priority, _ in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version} | (remaining or {}),
        "columnDefinitions": definitions if head else None,
        "rows": [
            {
                "cells": [value(obj) for _, _, _, value in columns],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": obj["metadata"],
                },
            }
            for obj in objects
        ],
    }


def columns_of(kind: Kind) -> list[Column]:
    """Name first, age last unless the kind says otherwise."""
    name: Column = ("Name", "string", 0, lambda obj: obj["metadata"]["name"])
    age: Column = ("Age", "string", 0, _age)
    if kind.is_custom:
        custom = [_custom(*column) for column in kind.columns]
        return [name, *custom] if custom else [name, age]
    return [name, *_COLUMNS.get(kind.name, ()), age, *_WIDE.get(kind.name, ())]


def _custom(name: str, type_: str, path: str, priority: int) -> Column:
    def value(obj: Object) -> Any:
        found = json_paths.find(path, obj)
        if not found:
            return None
        if type_ == "date":
            return _since(found[0]) if isinstance(found[0], str) else None
        if type_ == "string":
            return ",".join(each if isinstance(each, str) else _encode(each).decode() for each in found)
        return found[0]

    return (name, type_ if type_ != "date" else "string", priority, value)


def _age(obj: Object) -> str:
    return _since(obj["metadata"].get("creationTimestamp") or "")


def _since(stamp: str) -> str:
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


def _number(*path: str) -> Callable[[Object], Any]:
    return lambda obj: _get(obj, *path, default=0)


def _containers(obj: Object) -> list[Object]:
    return list(_get(obj, "spec", "template", "spec", "containers", default=[]))


_COLUMNS: dict[str, tuple[Column, ...]] = {
    "Pod": (
        ("Ready", "string", 0, _ready),
        ("Status", "string", 0, _pod_status),
        ("Restarts", "string", 0, _restarts),
    ),
    "Service": (
        ("Type", "string", 0, lambda o: _get(o, "spec", "type")),
        ("Cluster-IP", "string", 0, lambda o: _get(o, "spec", "clusterIP")),
        ("External-IP", "string", 0, _external),
        ("Port(s)", "string", 0, _ports),
    ),
    "Deployment": (
        (
            "Ready",
            "string",
            0,
            lambda o: f"{_get(o, 'status', 'readyReplicas', default=0)}/{_get(o, 'spec', 'replicas', default=0)}",
        ),
        ("Up-to-date", "string", 0, _number("status", "updatedReplicas")),
        ("Available", "string", 0, _number("status", "availableReplicas")),
    ),
    "ReplicaSet": (
        ("Desired", "integer", 0, _number("spec", "replicas")),
        ("Current", "integer", 0, _number("status", "replicas")),
        ("Ready", "integer", 0, _number("status", "readyReplicas")),
    ),
    "Namespace": (("Status", "string", 0, lambda o: _get(o, "status", "phase")),),
    "Node": (
        ("Status", "string", 0, _node_status),
        ("Roles", "string", 0, lambda _: "<none>"),
    ),
    "ConfigMap": (("Data", "string", 0, lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {})),),
    "Secret": (
        ("Type", "string", 0, lambda o: o.get("type", "")),
        ("Data", "integer", 0, lambda o: len(o.get("data") or {})),
    ),
    "ServiceAccount": (("Secrets", "string", 0, lambda o: len(o.get("secrets") or ())),),
    "EndpointSlice": (
        ("AddressType", "string", 0, lambda o: o.get("addressType", "")),
        ("Ports", "string", 0, _slice_ports),
        ("Endpoints", "string", 0, _slice_addresses),
    ),
    "Lease": (("Holder", "string", 0, lambda o: _get(o, "spec", "holderIdentity", default="")),),
    "Event": (
        ("Type", "string", 0, lambda o: o.get("type", "")),
        ("Reason", "string", 0, lambda o: o.get("reason", "")),
        (
            "Object",
            "string",
            0,
            lambda o: f"{_get(o, 'involvedObject', 'kind')}/{_get(o, 'involvedObject', 'name')}".lower(),
        ),
        ("Message", "string", 0, lambda o: o.get("message", "")),
    ),
}
_WIDE: dict[str, tuple[Column, ...]] = {
    "CertificateSigningRequest": (
        ("SignerName", "string", 0, lambda o: _get(o, "spec", "signerName")),
        ("Requestor", "string", 0, lambda o: _get(o, "spec", "username")),
        ("RequestedDuration", "string", 0, _asked_for),
        ("Condition", "string", 0, _decided),
    ),
    "ResourceQuota": (
        ("Request", "string", 0, lambda o: _bounds(o, is_limit=False)),
        ("Limit", "string", 0, lambda o: _bounds(o, is_limit=True)),
    ),
    "Pod": (
        ("IP", "string", 1, lambda o: _get(o, "status", "podIP")),
        ("Node", "string", 1, lambda o: _get(o, "spec", "nodeName")),
    ),
    "Service": (("Selector", "string", 1, lambda o: _labels(o.get("spec", {}).get("selector"))),),
    "Deployment": (
        ("Containers", "string", 1, lambda o: ",".join(c["name"] for c in _containers(o))),
        ("Images", "string", 1, lambda o: ",".join(str(c.get("image", "")) for c in _containers(o))),
        ("Selector", "string", 1, lambda o: _labels(_get(o, "spec", "selector", "matchLabels", default={}))),
    ),
    "Node": (("Internal-IP", "string", 1, _internal_ip),),
}
