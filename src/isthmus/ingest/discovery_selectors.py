"""Discovery selectors: of which namespaces a mesh knows, in every cluster (MeshConfig `discoverySelectors`).

A namespace that no selector chooses is as if it were not there, with everything in it: services, Pods, rules. What is in no namespace stays. The
system namespace is no exception: it has to be chosen, too, if its gateways and rules are to count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isthmus.api.core import Namespace
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.selectors import LabelSelector, Operator, Requirement

_NAMED_MAX = 10


class BadSelector(ValueError):
    """A selector that cannot be understood; the text says which, and why."""


def selectors_of(said: object) -> tuple[LabelSelector, ...]:
    """Raises BadSelector for the first that is wrong: half of them would hide what the other half was to show."""
    if said is None:
        return ()
    if not isinstance(said, list):
        raise BadSelector("discoverySelectors: is not a list")
    return tuple(_selector(entry, f"discoverySelectors[{index}]") for index, entry in enumerate(said))


def discovered(cluster: ClusterInput, selectors: Sequence[LabelSelector]) -> ClusterInput:
    """The cluster as far as the mesh knows it. Without selectors, all of it."""
    if not selectors:
        return cluster
    known = {"", *(name for name, labels in _labels(cluster) if any(each.selects(labels) for each in selectors))}
    return replace(
        cluster,
        objects={
            kind: {name: found for name, found in objects.items() if name[0] in known}
            for kind, objects in cluster.objects.items()
        },
    )


def left_out(cluster: ClusterInput, selectors: Sequence[LabelSelector]) -> tuple[Issue, ...]:
    """That namespaces are not known, and which."""
    if not selectors:
        return ()
    names = sorted(name for name, labels in _labels(cluster) if not any(each.selects(labels) for each in selectors))
    if not names:
        return ()
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return (
        Issue(
            subject=Subject(cluster.id, "Namespace", "", names[0] if len(names) == 1 else "*"),
            code="ISM0109",
            severity=Severity.INFO,
            what=f"no discovery selector chooses {', '.join(names[:_NAMED_MAX])}{more}: nothing in there is part of the mesh",
            fix="label the namespace as one of MeshConfig's discoverySelectors says, or leave it out",
        ),
    )


def _labels(cluster: ClusterInput) -> list[tuple[str, Mapping[str, str]]]:
    return [
        (name, found.metadata.labels)
        for (_, name), found in cluster.objects.get("Namespace", {}).items()
        if isinstance(found, Namespace)
    ]


def _selector(entry: Any, where: str) -> LabelSelector:
    if not isinstance(entry, Mapping):
        raise BadSelector(f"{where}: is not an object")
    labels, expressions = entry.get("matchLabels") or {}, entry.get("matchExpressions") or []
    if not isinstance(labels, Mapping) or not all(isinstance(value, str) for value in labels.values()):
        raise BadSelector(f"{where}.matchLabels: is not a map of texts")
    if not isinstance(expressions, list):
        raise BadSelector(f"{where}.matchExpressions: is not a list")
    return LabelSelector(
        (
            *(Requirement(str(key), Operator.IN, (value,)) for key, value in sorted(labels.items())),
            *(_requirement(each, f"{where}.matchExpressions[{index}]") for index, each in enumerate(expressions)),
        )
    )


def _requirement(entry: Any, where: str) -> Requirement:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("key"), str):
        raise BadSelector(f"{where}: has no key")
    values = entry.get("values") or []
    if entry.get("operator") not in tuple(Operator):
        raise BadSelector(f"{where}.operator: {entry.get('operator')!r} is none of {', '.join(Operator)}")
    operator = Operator(entry["operator"])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BadSelector(f"{where}.values: is not a list of texts")
    if bool(values) is not (operator in (Operator.IN, Operator.NOT_IN)):
        raise BadSelector(f"{where}.values: {operator.value} needs {'some' if not values else 'none'}")
    return Requirement(entry["key"], operator, tuple(values))
