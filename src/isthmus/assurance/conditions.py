"""Conditions as Kubernetes has them in a status: each keeps the time of its last change, and those of other controllers stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.api.meta import KubernetesObject
from isthmus.model.attachments import Condition

Object = dict[str, Any]

_RETIRED = frozenset({"PartiallyInvalid"})
"""Types of ours that are there only while they hold."""


def conditions(wanted: Sequence[Condition], status: Mapping[str, Any], obj: KubernetesObject, now: str) -> list[Object]:
    """Ours, and behind them those of types that we do not speak of."""
    before = {each.get("type"): each for each in objects_in(status, "conditions")}
    found = []
    for condition in wanted:
        held = "True" if condition.holds else "False"
        last = before.get(condition.type, {})
        found.append(
            {
                "type": condition.type,
                "status": held,
                "reason": condition.reason,
                "message": condition.message,
                "observedGeneration": obj.metadata.generation,
                "lastTransitionTime": last.get("lastTransitionTime", now) if last.get("status") == held else now,
            }
        )
    ours = {condition.type for condition in wanted} | _RETIRED
    return [*found, *(dict(each) for each in before.values() if each.get("type") not in ours)]


def objects_in(status: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Statuses are written by anybody: what is not a list of objects counts as none."""
    found = status.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
