"""Aggregated ClusterRoles have the rules of those that their selectors choose."""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.authors import controller
from isthmus.apiserver.kinds import BUILT_IN
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.selectors import from_label_selector
from isthmus.apiserver.store import Store

Object = dict[str, Any]

_CLUSTER_ROLE = next(kind for kind in BUILT_IN if kind.name == "ClusterRole")
_AUTHOR = controller("clusterrole-aggregation-controller")


async def aggregate(objects: Objects) -> None:
    """Until nothing changes: an aggregated role may be part of another one."""
    changed = True
    while changed:
        changed = False
        for stored in list(objects.store.items(_CLUSTER_ROLE)):
            rules = _aggregated(objects.store, stored.obj)
            if rules is not None and rules != (stored.obj.get("rules") or []):
                await objects.replace(_CLUSTER_ROLE, stored.obj | {"rules": rules}, author=_AUTHOR)
                changed = True


def _aggregated(store: Store, role: Object) -> list[Object] | None:
    """None for a role that says its rules itself."""
    selectors = [
        from_label_selector(each) for each in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
    ]
    if not selectors:
        return None
    rules: list[Object] = []
    for stored in store.items(_CLUSTER_ROLE):
        if stored.obj["metadata"]["name"] != role["metadata"]["name"] and any(
            choose(stored.obj) for choose in selectors
        ):
            rules += [rule for rule in stored.obj.get("rules") or () if rule not in rules]
    return rules
