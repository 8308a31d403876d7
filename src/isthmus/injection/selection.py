"""Which Pods are injected: Istio's label rules, as the selectors of an admission webhook.

The same entries are written into the webhook configuration, where an API server evaluates them, and evaluated here, where none does. What
selectors cannot say (host networking, the system's own namespaces, an annotation) is asked of each Pod that they selected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.model.selectors import Operator, Requirement
from isthmus.model.values import dataclass

Object = dict[str, Any]

NAMESPACE_LABEL = "istio-injection"
REVISION_LABEL = "istio.io/rev"
POD_LABEL = "sidecar.istio.io/inject"
STATUS_ANNOTATION = "sidecar.istio.io/status"
DEFAULT_REVISION = "default"
IGNORED_NAMESPACES = ("kube-node-lease", "kube-public", "kube-system", "local-path-storage")
_NAME_LABEL = "kubernetes.io/metadata.name"
_YES = frozenset(("y", "yes", "true", "on"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One webhook of the configuration: it is called when both selectors hold."""

    name: str
    namespace: tuple[Requirement, ...]
    pod: tuple[Requirement, ...]

    def selects(self, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> bool:
        return all(each.holds(namespace_labels) for each in self.namespace) and all(
            each.holds(pod_labels) for each in self.pod
        )


def entries(name: str, *, is_default: bool, by_default: bool = False) -> list[Entry]:
    """For a revision or a tag of that name. `is_default`: it also answers to the labels that name no revision; `by_default`: and to
    namespaces without any label.
    """
    unlabelled = (_absent(NAMESPACE_LABEL), _absent(REVISION_LABEL))
    allowed, here = (
        Requirement(POD_LABEL, Operator.NOT_IN, ("false",)),
        Requirement(REVISION_LABEL, Operator.IN, (name,)),
    )
    found = [
        Entry(name="rev.namespace", namespace=(here, _absent(NAMESPACE_LABEL)), pod=(allowed,)),
        Entry(name="rev.object", namespace=unlabelled, pod=(allowed, here)),
    ]
    if is_default:
        enabled = Requirement(NAMESPACE_LABEL, Operator.IN, ("enabled",))
        wanted = Requirement(POD_LABEL, Operator.IN, ("true",))
        found += [
            Entry(name="namespace", namespace=(enabled,), pod=(allowed,)),
            Entry(name="object", namespace=unlabelled, pod=(wanted, _absent(REVISION_LABEL))),
        ]
    if is_default and by_default:
        elsewhere = Requirement(_NAME_LABEL, Operator.NOT_IN, IGNORED_NAMESPACES)
        found.append(
            Entry(
                name="auto",
                namespace=(*unlabelled, elsewhere),
                pod=(allowed, _absent(POD_LABEL), _absent(REVISION_LABEL)),
            )
        )
    return found  # fmt: skip


def selected(
    rules: Iterable[Entry], namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]
) -> Entry | None:
    """The first entry that selects the Pod."""
    return next((entry for entry in rules if entry.selects(namespace_labels, pod_labels)), None)


def objection(pod: Mapping[str, Any], namespace: str) -> str:
    """Why a Pod that the selectors chose is not injected all the same; empty if nothing speaks against it."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    if namespace in IGNORED_NAMESPACES:
        return f"namespace {namespace} is the system's own"
    if spec.get("hostNetwork"):
        return "the Pod is on its host's network: capture there would take every Pod's connections"
    if STATUS_ANNOTATION in annotations:
        return f"the Pod has been injected already ({STATUS_ANNOTATION})"
    said = (metadata.get("labels") or {}).get(POD_LABEL) or annotations.get(POD_LABEL) or "true"
    if str(said).lower() not in _YES:
        return f"the Pod says {POD_LABEL}: {said}"
    return ""


def wire(requirement: Requirement) -> Object:
    """As an item of matchExpressions."""
    values = {"values": list(requirement.values)} if requirement.values else {}
    return {"key": requirement.key, "operator": requirement.operator.value, **values}


def _absent(key: str) -> Requirement:
    return Requirement(key, Operator.DOES_NOT_EXIST)
