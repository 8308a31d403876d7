"""The end of namespaces: everything in one goes before it does. What a new one has is published by whoever runs the cluster."""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.authors import controller
from isthmus.apiserver.kinds import BUILT_IN
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import name_of

Object = dict[str, Any]

_NAMESPACE = next(kind for kind in BUILT_IN if kind.name == "Namespace")
_AUTHOR = controller("namespace-controller")


async def finish(objects: Objects, name: str) -> None:
    """Empties a namespace that is going, and lets it go when nothing is left. Raises Refused."""
    store = objects.store
    stored = store.find(_NAMESPACE, ("", name))
    if stored is None or "deletionTimestamp" not in stored.obj["metadata"]:
        return
    kinds = {kind.storage: kind for kind in objects.kinds.all() if kind.namespaced}
    for kind in kinds.values():
        for inside in list(store.items(kind, name)):
            if "deletionTimestamp" not in inside.outline["metadata"]:
                try:
                    await objects.delete(kind, name_of(inside.outline), {}, _AUTHOR)
                except Refused as refusal:
                    if refusal.reason != "NotFound":
                        raise
    if any(True for kind in kinds.values() for _ in store.items(kind, name)):
        return
    stored = store.find(_NAMESPACE, ("", name))
    if stored is not None and stored.obj["spec"].get("finalizers"):
        left = [each for each in stored.obj["spec"]["finalizers"] if each != "kubernetes"]
        emptied = stored.obj | {"spec": {"finalizers": left}}
        await objects.replace(_NAMESPACE, emptied, subresource="finalize", author=_AUTHOR)
