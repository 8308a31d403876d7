"""What an object gets when it is created or changed without saying: defaults and generated names."""

from __future__ import annotations

import base64
import random
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from isthmus.apiserver import webhook_shapes
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import invalid
from isthmus.apiserver.uids import new_uid

Object = dict[str, Any]

_SERVERS = frozenset(
    {"resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"}
)
"""Fields of metadata that a new object cannot bring along."""

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def now() -> str:
    """Seconds, as metadata times are written."""
    return _written(int(time.time()))


@lru_cache(maxsize=4)
def _written(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_metadata(kind: Kind, obj: Object, namespace: str) -> None:
    """Completes the metadata of an object that is being created. Raises Refused for one without a name."""
    metadata = obj.setdefault("metadata", {})
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + "".join(random.choices(_SUFFIX, k=5))
    name = metadata.get("name", "")
    if not name:
        raise invalid(
            kind, "", "metadata.name", "Required value: name or generateName is required", "FieldValueRequired"
        )
    if kind.namespaced:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    for field in _SERVERS.intersection(metadata):
        del metadata[field]
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = now()
    if kind.counts_changes:
        metadata["generation"] = 1


def fill(kind: Kind, obj: Object) -> None:
    """The defaults of the built-in kinds that people and controllers rely on."""
    filler = _FILLERS.get(kind.name) if not kind.is_custom else None
    if filler is not None:
        filler(obj)


def _part(obj: Object, field: str) -> Object:
    """Null is as good as not said."""
    if obj.get(field) is None:
        obj[field] = {}
    part: Object = obj[field]
    return part


def _service(obj: Object) -> None:
    spec = _part(obj, "spec")
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port["targetPort"] = port.get("targetPort") or port.get("port")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] in ("LoadBalancer", "NodePort"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    obj.setdefault("status", {"loadBalancer": {}})


def _pod_spec(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in spec.get("containers") or ():
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        tag = str(container.get("image", "")).rpartition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
        for field in PROBES:
            if container.get(field) is not None:
                _probe(container[field])
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")


def _probe(probe: Object) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe.setdefault(field, value)
    if probe.get("httpGet") is not None:
        probe["httpGet"].setdefault("path", "/")
        probe["httpGet"].setdefault("scheme", "HTTP")


def _pod(obj: Object) -> None:
    spec = _part(obj, "spec")
    _pod_spec(spec)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account
    spec.setdefault("enableServiceLinks", True)
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _workload(obj: Object) -> None:
    spec = _part(obj, "spec")
    spec.setdefault("replicas", 1)
    template = _part(spec, "template")
    metadata = _part(template, "metadata")
    if metadata.get("creationTimestamp", "") is None:
        del metadata["creationTimestamp"]
    inside = _part(template, "spec")
    _pod_spec(inside)
    if inside.get("serviceAccountName") or inside.get("serviceAccount"):
        account = inside.get("serviceAccountName") or inside["serviceAccount"]
        inside["serviceAccountName"] = inside["serviceAccount"] = account


def _deployment(obj: Object) -> None:
    _workload(obj)
    spec = obj["spec"]
    strategy = _part(spec, "strategy")
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = _part(strategy, "rollingUpdate")
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _namespace(obj: Object) -> None:
    obj["spec"] = {"finalizers": ["kubernetes"]} | obj.get("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _crd(obj: Object) -> None:
    spec = obj.get("spec", {})
    names = spec.setdefault("names", {})
    names.setdefault("singular", str(names.get("kind", "")).lower())
    names.setdefault("listKind", f"{names.get('kind', '')}List")
    spec.setdefault("conversion", {"strategy": "None"})
    conditions = (obj.get("status") or {}).get("conditions") or ()
    since = {condition["type"]: condition["lastTransitionTime"] for condition in conditions}
    obj["status"] = {
        "acceptedNames": names,
        "storedVersions": [version["name"] for version in spec.get("versions", ()) if version.get("storage")],
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": since.get(kind) or now(),
            }
            for kind, reason, message in (
                ("NamesAccepted", "NoConflicts", "no conflicts found"),
                ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            )
        ],
    }


def _signing_request(obj: Object) -> None:
    """A condition has the moment at which it was said."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        condition.setdefault("lastUpdateTime", now())
        condition.setdefault("lastTransitionTime", now())


_FILLERS = {
    "CertificateSigningRequest": _signing_request,
    "Service": _service,
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _workload,
    "StatefulSet": _workload,
    "Namespace": _namespace,
    "Secret": _secret,
    "CustomResourceDefinition": _crd,
    "MutatingWebhookConfiguration": webhook_shapes.fill,
    "ValidatingWebhookConfiguration": webhook_shapes.fill,
}
