"""Revisions: several control planes of one cluster, and which of its rules are whose.

A rule without the label `istio.io/rev` is everybody's; one with it belongs to the revision that it names, or to the one that has it as a tag. A
tag is a Service in the system namespace with the labels `istio.io/tag` and `istio.io/rev`, so that moving it moves both its address and its rules.
"""

from __future__ import annotations

from isthmus.api.core import Service
from isthmus.api.meta import KubernetesObject
from isthmus.ingest import labels
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.snapshot import MeshSettings


def revisions_of(cluster: ClusterInput, settings: MeshSettings) -> frozenset[str]:
    """The names that this control plane goes by: its revision, and the tags that lead to it. Empty where it takes everything."""
    if not settings.revision:
        return frozenset()
    found = {settings.revision}
    for (namespace, _), service in cluster.objects.get("Service", {}).items():
        if namespace == settings.root_namespace and isinstance(service, Service):
            said = service.metadata.labels
            if said.get(labels.TAG) and said.get(labels.REVISION) == settings.revision:
                found.add(said[labels.TAG])
    return frozenset(found)


def is_of(obj: KubernetesObject, revisions: frozenset[str]) -> bool:
    """Whether a rule is for a control plane that goes by these names."""
    said = obj.metadata.labels.get(labels.REVISION)
    return not said or not revisions or said in revisions
