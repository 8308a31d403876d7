"""From which namespaces something may attach: routes to a listener, ListenerSets to a Gateway."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.api import gateway_api as api
from isthmus.api.core import Namespace as NamespaceObject

_NAME_LABEL = "kubernetes.io/metadata.name"


def may_attach(
    said: api.AttachingNamespaces, own: str, namespace: str, known: Mapping[tuple[str, str], NamespaceObject]
) -> bool:
    """Whether what is in `namespace` may attach to an object in `own` that says so."""
    match said.from_:
        case "All":
            return True
        case "Same":
            return namespace == own
        case "Selector":
            found = known.get(("", namespace))
            labels = {_NAME_LABEL: namespace, **(found.metadata.labels if found else {})}
            return said.selector is not None and _selects(said.selector, labels)
        case _:
            return False


def _selects(selector: api.LabelSelector, labels: Mapping[str, str]) -> bool:
    def holds(said: api.LabelRequirement) -> bool:
        match said.operator:
            case "In":
                return labels.get(said.key) in said.values
            case "NotIn":
                return labels.get(said.key) not in said.values
            case "Exists":
                return said.key in labels
            case "DoesNotExist":
                return said.key not in labels
            case _:
                return False

    return selector.match_labels.items() <= labels.items() and all(map(holds, selector.match_expressions))
