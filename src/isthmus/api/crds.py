"""CustomResourceDefinitions for the custom kinds in the registry.

Their schemas accept every field: what Isthmus reads is a projection of what Istio's API has, and an object that says more is not wrong.
"""

from __future__ import annotations

from typing import Any

from isthmus.api import gateway_api
from isthmus.api.registry import KINDS, Kind

_CATEGORIES = {gateway_api.GROUP: "gateway-api"}
_SHORT_NAMES = {"GatewayClass": ["gc"], "KubernetesGateway": ["gtw"], "ReferenceGrant": ["refgrant"]}


def _approval(kind: Kind) -> dict[str, Any]:
    """Kubernetes takes definitions in its community's groups only with a word about their approval."""
    if not kind.group.endswith(".k8s.io"):
        return {}
    return {"annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in that accepts every field"}}


def crd(kind: Kind) -> dict[str, Any]:
    """The definition, as an API server takes it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", **_approval(kind)},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "categories": [_CATEGORIES.get(kind.group, "istio-io"), kind.group.replace(".", "-")],
                "shortNames": _SHORT_NAMES.get(kind.key, []),
            },
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            },
                        }
                    },
                }
            ],
        },
    }


def all_crds() -> list[dict[str, Any]]:
    """Every custom kind's definition."""
    return [crd(kind) for kind in KINDS.values() if kind.is_custom]
