"""The webhook configurations by which an API server calls the control plane: for new Pods, and for configuration that somebody writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.injection.selection import DEFAULT_REVISION, REVISION_LABEL, entries, wire
from isthmus.model.selectors import Operator, Requirement
from isthmus.model.values import dataclass

Object = dict[str, Any]

TAG_LABEL = "istio.io/tag"
WEBHOOK_PORT = 15017
_GROUP = "admissionregistration.k8s.io/v1"
_ROUTES = ("httproutes", "grpcroutes", "tlsroutes", "tcproutes")
_VALIDATED = ("networking.istio.io", "security.istio.io", "telemetry.istio.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """Where the webhooks are: a Service in the cluster (port 443), or a URL that begins with https:// (without a path)."""

    service: str
    namespace: str
    url: str = ""

    def client_config(self, path: str) -> Object:
        """Without the authority, which the control plane itself fills in: it is the one that knows it."""
        if self.url:
            return {"url": self.url.rstrip("/") + path}
        return {"service": {"name": self.service, "namespace": self.namespace, "path": path, "port": 443}}


def injector_name(revision: str, namespace: str) -> str:
    """Istio's; one for each revision and system namespace."""
    suffix = "" if revision == DEFAULT_REVISION else f"-{revision}"
    return f"istio-sidecar-injector{suffix}" + ("" if namespace == "istio-system" else f"-{namespace}")


def validator_name(revision: str, namespace: str) -> str:
    suffix = "" if revision == DEFAULT_REVISION else f"-{revision}"
    return f"istio-validator{suffix}-{namespace}"


def injector(
    revision: str, called: Called, path: str, *, labels: Mapping[str, str], tag: str = "", by_default: bool = False
) -> Object:
    """For a revision, or for a tag that stands for it. Pods wait for it: one that starts without its proxy would be outside the mesh."""
    selecting = tag or revision
    name = f"istio-revision-tag-{tag}" if tag else injector_name(revision, called.namespace)
    found = entries(selecting, is_default=selecting == DEFAULT_REVISION, by_default=by_default)
    return {
        "apiVersion": _GROUP,
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": name,
            "labels": {**labels, "app": "sidecar-injector", REVISION_LABEL: revision, **({TAG_LABEL: tag} if tag else {})},
        },
        "webhooks": [
            {
                "name": f"{entry.name}.sidecar-injector.istio.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": called.client_config(path),
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchExpressions": [wire(each) for each in entry.namespace]},
                "objectSelector": {"matchExpressions": [wire(each) for each in entry.pod]},
                "reinvocationPolicy": "Never",
                "rules": [_rule([""], ["v1"], ["pods"], ["CREATE"])],
                "sideEffects": "None",
                "timeoutSeconds": 10,
            }
            for entry in found
        ],
    }  # fmt: skip


def validator(
    revision: str,
    called: Called,
    *,
    labels: Mapping[str, str],
    failure_policy: str,
    objects: Sequence[Requirement] | None = None,
) -> Object:
    """`objects`: whose configuration it judges. If nothing is said, that of the revision by name, and for the default one what names none."""
    by_name = Requirement(REVISION_LABEL, Operator.IN, (revision,))
    unnamed = Requirement(REVISION_LABEL, Operator.DOES_NOT_EXIST)
    judged = objects if objects is not None else [unnamed if revision == DEFAULT_REVISION else by_name]
    return {
        "apiVersion": _GROUP,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": validator_name(revision, called.namespace),
            "labels": {**labels, "app": "istiod", "istio": "istiod", REVISION_LABEL: revision},
        },
        "webhooks": [
            {
                "name": "validation.istio.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": called.client_config("/validate"),
                "failurePolicy": failure_policy,
                "matchPolicy": "Equivalent",
                "objectSelector": {"matchExpressions": [wire(each) for each in judged]},
                "rules": [_rule(_VALIDATED, ["*"], ["*"], ["CREATE", "UPDATE"])],
                "sideEffects": "None",
                "timeoutSeconds": 10,
            },
            {
                "name": "quota.isthmus.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": called.client_config("/quota"),
                # The mesh itself is to come up, and more than a quota counts for nobody else: nothing waits for this answer.
                "failurePolicy": "Ignore",
                "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchExpressions": [_beside("kube-system", called.namespace)]},
                "objectSelector": {},
                "rules": [
                    _rule([""], ["v1"], ["services"], ["CREATE", "UPDATE"]),
                    _rule(["gateway.networking.k8s.io"], ["*"], _ROUTES, ["CREATE", "UPDATE"]),
                ],
                "sideEffects": "None",
                "timeoutSeconds": 2,
            },
        ],
    }


def _beside(*namespaces: str) -> Object:
    return {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": sorted(set(namespaces))}


def _rule(
    groups: Sequence[str], versions: Sequence[str], resources: Sequence[str], operations: Sequence[str]
) -> Object:
    return {
        "apiGroups": list(groups),
        "apiVersions": list(versions),
        "operations": list(operations),
        "resources": list(resources),
        "scope": "*",
    }  # fmt: skip
