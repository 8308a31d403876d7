"""Values of objects: what a real server refuses, so that what works here works there.

Each kind's function gets the object as it would be stored, with its defaults, and yields what is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from isthmus.apiserver import metadata_values, pod_values, service_values, small_values
from isthmus.apiserver.faults import Faults, forbidden, invalid
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import invalid_fields
from isthmus.apiserver.validation import Fault

Object = dict[str, Any]

_FAULTS_MAX = 50

_CHECKS: dict[str, Callable[[Object], Faults]] = {
    "ConfigMap": small_values.config_map,
    "Secret": small_values.secret,
    "Role": small_values.role,
    "ClusterRole": small_values.role,
    "RoleBinding": small_values.role_binding,
    "ClusterRoleBinding": small_values.role_binding,
    "Lease": small_values.lease,
    "Event": small_values.event,
    "Service": service_values.service,
    "EndpointSlice": service_values.endpoint_slice,
    "Endpoints": service_values.endpoints,
    "Pod": pod_values.pod,
    "Deployment": pod_values.deployment,
    "ReplicaSet": pod_values.replica_set,
    "StatefulSet": pod_values.stateful_set,
    "DaemonSet": pod_values.daemon_set,
}
_CONTAINERS = ("containers", "initContainers")
_MAY_CHANGE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates", "nodeName")


def check(kind: Kind, old: Object | None, new: Object) -> None:
    """What was so before is held against nobody. Raises Refused (Invalid)."""
    found: list[Fault] = []
    if old is None or old["metadata"] != new["metadata"]:
        found += metadata_values.metadata(kind, new["metadata"])
    if not kind.is_custom:
        found += _of_kind(kind, old, new)
    if found and old is not None:
        before = {*metadata_values.metadata(kind, old["metadata"]), *_of_kind(kind, None, old)}
        found = [fault for fault in found if fault not in before]
    if found:
        raise invalid_fields(kind, new["metadata"]["name"], found[:_FAULTS_MAX])


def _of_kind(kind: Kind, old: Object | None, new: Object) -> list[Fault]:
    of_kind = None if kind.is_custom else _CHECKS.get(kind.name)
    if of_kind is None or (old is not None and wished(old) == wished(new)):
        return []
    found = list(of_kind(new))
    if old is not None and kind.name == "Pod" and not new["metadata"].get("deletionTimestamp"):
        found += _changed_pod(old.get("spec") or {}, new.get("spec") or {})
    return found


def counts(kind: Kind, old: Object, new: Object) -> bool:
    """Whether a change makes another generation of the object. Annotations of a Deployment do, as in Kubernetes."""
    if not kind.counts_changes:
        return False
    annotated = kind.name == "Deployment" and not kind.is_custom
    return wished(old) != wished(new) or (
        annotated and old["metadata"].get("annotations") != new["metadata"].get("annotations")
    )


def wished(obj: Object) -> Object:
    """What its author asks for, which is not what has come of it."""
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def _changed_pod(old: Object, new: Object) -> Faults:
    """A Pod is made once: what runs in it may get another image, and that is nearly all."""
    if not old.get("nodeName") and new.get("nodeName"):
        return  # It is being placed, and gets what its place needs.
    if _lasting(old) != _lasting(new):
        fields = [f"`spec.{each}[*].image`" for each in _CONTAINERS]
        fields += ["`spec.activeDeadlineSeconds`", "`spec.tolerations` (only additions to existing tolerations)"]
        fields.append("`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")
        yield forbidden("spec", f"pod updates may not change fields other than {','.join(fields)}")
    elif old.get("nodeName") != new.get("nodeName"):
        yield from invalid("spec.nodeName", new.get("nodeName"), ["field is immutable"])


def _lasting(spec: Object) -> Object:
    kept = {field: copy.copy(value) for field, value in spec.items() if field not in _MAY_CHANGE}
    for field in _CONTAINERS:
        if field in kept:
            kept[field] = [
                {name: value for name, value in container.items() if name != "image"} for container in kept[field]
            ]
    return kept
