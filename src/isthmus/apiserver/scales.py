"""The Scale of an object (autoscaling/v1): its replicas, wherever its kind keeps them."""

from __future__ import annotations

from typing import Any

from isthmus.apiserver.scale_paths import ScalePaths
from isthmus.apiserver.selectors import text_of
from isthmus.apiserver.status import unprocessable

Object = dict[str, Any]

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(paths: ScalePaths, obj: Object) -> Object:
    selector = (_read(obj, paths.selector) or "") if paths.selector else text_of(obj["spec"].get("selector") or {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: value for field, value in obj["metadata"].items() if field in _METADATA},
        "spec": {"replicas": _read(obj, paths.spec) or 0},
        "status": {"replicas": _read(obj, paths.status) or 0, "selector": selector},
    }


def scaled(paths: ScalePaths, obj: Object, scale: Object) -> Object:
    """The object with the Scale's replicas. Raises Refused."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise unprocessable(f"spec.replicas: Invalid value: {replicas!r}: must be a whole number, 0 or more")
    return _written(obj, paths.spec.strip(".").split("."), replicas)


def _read(obj: Object, path: str) -> Any:
    found: Any = obj
    for part in path.strip(".").split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _written(obj: Object, parts: list[str], value: Any) -> Object:
    first, *others = parts
    inside = obj.get(first)
    return obj | {first: _written(inside if isinstance(inside, dict) else {}, others, value) if others else value}
