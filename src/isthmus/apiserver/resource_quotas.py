"""ResourceQuotas: how many objects a namespace may have. What is counted is what is stored, at the moment of each write.

Counts are enforced (`count/virtualservices.networking.istio.io`, `services`, `pods`, …). What Pods ask of machines, and scopes, are kept and not
enforced: nothing runs here that could be measured by them, and whoever writes them is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from isthmus.apiserver.kinds import BUILT_IN, Kind, Kinds
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Store
from isthmus.apiserver.validation import Fault

Object = dict[str, Any]

KIND = next(kind for kind in BUILT_IN if kind.name == "ResourceQuota")
_COUNT = "count/"
_PLAIN = frozenset(
    {"configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"}
)
"""Core kinds that have a name of their own beside `count/…`."""
_BALANCERS, _NODE_PORTS = "services.loadbalancers", "services.nodeports"
_LOOKED_INTO = ("Pod", "Service")
"""Kinds of which an object may count as more, or as less, than one."""
_OF_MACHINES = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "requests.", "limits.")
    for name in ("cpu", "memory", "storage", "ephemeral-storage")
)
_NUMBER = re.compile(r"\d+(k|M|G)?")
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


class Quotas:
    """Of all namespaces."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds

    def check(self, kind: Kind, new: Object, old: Object | None = None) -> None:
        """Whether the namespace may have what is new in it. Raises Refused (Forbidden)."""
        namespace = new["metadata"].get("namespace", "")
        if not namespace or not self._store.has(KIND):
            return
        before = _counts(kind, old) if old is not None else {}
        more = {name: count - before.get(name, 0) for name, count in _counts(kind, new).items()}
        more = {name: count for name, count in more.items() if count > 0}
        for quota in self._of(namespace):
            hard = _enforced(quota)
            used = self._used(namespace, more.keys() & hard.keys())
            over = sorted(name for name in used if used[name] + more[name] > hard[name])
            if over:
                parts = (
                    f"{word}: {','.join(f'{name}={found[name]}' for name in over)}"
                    for word, found in (("requested", more), ("used", used), ("limited", hard))
                )
                why = f"exceeded quota: {quota['metadata']['name']}, {', '.join(parts)}"
                raise Refused(403, "Forbidden", f'{kind.qualified} "{new["metadata"]["name"]}" is forbidden: {why}')

    def statuses(self, namespace: str) -> Iterator[Object]:
        """Each quota whose status does not say what is so, with one that does."""
        for quota in self._of(namespace):
            hard = quota.get("spec", {}).get("hard") or {}
            used = self._used(namespace, _enforced(quota))
            status = {"hard": hard, "used": {name: str(count) for name, count in used.items()}}
            if quota.get("status") != status:
                yield quota | {"status": status}

    def has(self, namespace: str) -> bool:
        """Whether anything is bounded there."""
        return self._store.has(KIND) and any(True for _ in self._of(namespace))

    def _of(self, namespace: str) -> Iterator[Object]:
        return (stored.obj for stored in self._store.items(KIND, namespace))

    def _used(self, namespace: str, names: Iterable[str]) -> dict[str, int]:
        used = dict.fromkeys(names, 0)
        kinds = {kind.storage: kind for kind in self._kinds.all() if kind.namespaced}
        for kind in kinds.values():
            if used.keys() & _names(kind):
                for stored in self._store.items(kind, namespace):
                    for name, count in _counts(kind, stored.obj if kind.name in _LOOKED_INTO else {}).items():
                        if name in used:
                            used[name] += count
        return used


def faults(quota: Object) -> Iterator[Fault]:
    """What cannot be a bound."""
    for name, value in ((quota.get("spec") or {}).get("hard") or {}).items():
        path = f"spec.hard[{name}]"
        if "/" not in name and name not in _PLAIN | _OF_MACHINES | {_BALANCERS, _NODE_PORTS}:
            yield Fault(path, "FieldValueInvalid", f'Invalid value: "{name}": must be a standard resource for quota')
        elif str(value).startswith("-"):
            yield Fault(path, "FieldValueInvalid", f'Invalid value: "{value}": must be greater than or equal to 0')
        elif name not in _OF_MACHINES and not _NUMBER.fullmatch(str(value)):
            yield Fault(path, "FieldValueInvalid", f'Invalid value: "{value}": must be an integer')


def not_enforced(quota: Object) -> Iterator[str]:
    """What its author is told."""
    spec = quota.get("spec") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        yield "a quota with scopes is kept, and not enforced"
    elif left := sorted((spec.get("hard") or {}).keys() & _OF_MACHINES):
        yield f"{', '.join(left)}: kept, and not enforced"


def _enforced(quota: Object) -> Mapping[str, int]:
    spec = quota.get("spec") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        return {}
    return {name: _number(str(value)) for name, value in (spec.get("hard") or {}).items() if name not in _OF_MACHINES}


def _number(text: str) -> int:
    return int(text.rstrip("kMG")) * _FACTORS[text[len(text.rstrip("kMG")) :]]


def _names(kind: Kind) -> set[str]:
    """All under which objects of a kind may count."""
    plain = {kind.plural} if not kind.group and kind.plural in _PLAIN else set()
    return {f"{_COUNT}{kind.qualified}"} | plain | ({_BALANCERS, _NODE_PORTS} if kind.name == "Service" else set())


def _counts(kind: Kind, obj: Object) -> dict[str, int]:
    """What an object counts. A Pod that is over takes no place among `pods`."""
    found = dict.fromkeys(_names(kind), 1)
    if kind.group:
        return found
    if kind.name == "Pod" and (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        found["pods"] = 0
    if kind.name == "Service":
        spec = obj.get("spec") or {}
        is_balanced = spec.get("type") == "LoadBalancer"
        has_ports = spec.get("type") == "NodePort" or (
            is_balanced and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        found[_BALANCERS] = int(is_balanced)
        found[_NODE_PORTS] = len(spec.get("ports") or ()) if has_ports else 0
    return found
