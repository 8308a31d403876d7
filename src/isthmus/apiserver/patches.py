"""The three patches of the Kubernetes API: JSON patch (RFC 6902), JSON merge patch (RFC 7386), and strategic merge.

A strategic merge treats some lists as maps: their items are told apart by a key that depends on the list's field.
"""

from __future__ import annotations

import copy
from typing import Any

from isthmus.apiserver.status import bad_request, unprocessable

_MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "schedulingGates": ("name",),
    "podIPs": ("ip",),
    "hostIPs": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "addresses": ("type",),
    "secrets": ("name",),
    "webhooks": ("name",),
}
_SET_LISTS = frozenset({"finalizers"})
"""Lists of plain values that are merged as sets."""


_PORTS = {"ServiceSpec": "port", "Container": "containerPort", "EphemeralContainer": "containerPort"}
_RETAINED = frozenset({"PodSpec.volumes", "DeploymentSpec.strategy"})


def strategy_of(type_: str, field: str) -> dict[str, str]:
    """How a strategic merge changes a field of a built-in type, in OpenAPI's words."""
    ports = {type_: (_PORTS[type_],)} if field == "ports" and type_ in _PORTS else {}
    keys = _MERGE_KEYS.get(field) or ports.get(type_) or ()
    strategies = ["merge"] if keys or field in _SET_LISTS else []
    strategies += ["retainKeys"] if f"{type_}.{field}" in _RETAINED else []
    found = {"x-kubernetes-patch-strategy": ",".join(strategies)} if strategies else {}
    return found | ({"x-kubernetes-patch-merge-key": keys[0]} if keys else {})


def json_patch(target: Any, operations: Any) -> Any:
    """Raises Refused: a failed `test`, or a path that is not there."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    document = copy.deepcopy(target)
    for operation in operations:
        document = _operate(document, operation)
    return document


def merge_patch(target: Any, patch: Any) -> Any:
    """null deletes; objects merge; everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(target: Any, patch: Any, kind: str) -> Any:
    """As a merge patch, but for the lists that have a merge key, and the directives that begin with `$`. `kind` is the whole object's."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    retained = patch.get("$retainKeys")
    if retained is not None:
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in result.get(name) or () if item not in value]
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _merge_list(kind, key, result.get(key) or [], value, patch.get(f"$setElementOrder/{key}"))
        else:
            result[key] = strategic_merge(result.get(key), value, kind)
    return result


def _merge_list(kind: str, field: str, target: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    if field in _SET_LISTS:
        return [*target, *(item for item in patch if item not in target)]
    key = _merge_key(kind, field, target, patch)
    if key is None:
        return patch
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    merged = {item.get(key): item for item in target}
    for item in patch:
        name = item.get(key)
        if item.get("$patch") == "delete":
            merged.pop(name, None)
        else:
            merged[name] = strategic_merge(merged.get(name), item, kind)
    if order:
        wanted = [item.get(key) if isinstance(item, dict) else item for item in order]
        ranks = {name: rank for rank, name in enumerate(wanted)}
        return sorted(merged.values(), key=lambda item: ranks.get(item.get(key), len(ranks)))
    return list(merged.values())


def _merge_key(kind: str, field: str, target: list[Any], patch: list[Any]) -> str | None:
    """Ports are told apart by `containerPort` in a container and by `port` in a Service; elsewhere they are one value."""
    items = [item for item in (*target, *patch) if isinstance(item, dict)]
    if field == "ports":
        candidates: tuple[str, ...] = ("port",) if kind == "Service" else ("containerPort",)
    else:
        candidates = _MERGE_KEYS.get(field, ())
    for key in candidates:
        if items and any(key in item for item in items):
            return key
    return None


def _operate(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict) or "op" not in operation or "path" not in operation:
        raise bad_request("each operation of a JSON patch has op and path")
    name, path = operation["op"], _pointer(operation["path"])
    match name:
        case "test":
            if _read(document, path) != operation.get("value"):
                raise unprocessable(f"the server rejected our request: testing path {operation['path']} failed")
            return document
        case "add":
            return _add(document, path, copy.deepcopy(operation.get("value")))
        case "replace":
            _read(document, path)
            return (
                _add(_remove(document, path), path, copy.deepcopy(operation.get("value")))
                if path
                else operation.get("value")
            )
        case "remove":
            return _remove(document, path)
        case "move" | "copy":
            source = _pointer(operation.get("from", ""))
            value = copy.deepcopy(_read(document, source))
            return _add(_remove(document, source) if name == "move" else document, path, value)
        case _:
            raise bad_request(f"unknown JSON patch operation {name!r}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise bad_request(f"not a JSON pointer: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _missing(path: list[str]) -> Exception:
    return unprocessable(f"the server rejected our request: path /{'/'.join(path)} does not exist")


def _read(document: Any, path: list[str]) -> Any:
    for part in path:
        document = _child(document, part, path)
    return document


def _child(document: Any, part: str, path: list[str]) -> Any:
    if isinstance(document, dict) and part in document:
        return document[part]
    if isinstance(document, list) and part.isdigit() and int(part) < len(document):
        return document[int(part)]
    raise _missing(path)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _read(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last == "-":
        parent.append(value)
    elif isinstance(parent, list) and last.isdigit() and int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise _missing(path)
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent, last = _read(document, path[:-1]), path[-1]
    _child(parent, last, path)
    if isinstance(parent, dict):
        del parent[last]
    else:
        del parent[int(last)]
    return document
