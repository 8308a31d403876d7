"""Escalation: nobody gives what he has not. Who writes a role must have all that it allows, who binds one must have all that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.apiserver.access import MASTERS, Access, Attributes
from isthmus.apiserver.admission import Change
from isthmus.apiserver.status import Refused

Object = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"


class Escalation:
    """Checks writes of roles and bindings, on top of the right to write them."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def check(self, change: Change) -> None:
        """Raises Refused (Forbidden)."""
        kind, new = change.kind, change.new
        if kind.group != _GROUP or new is None or MASTERS in change.author.user.groups:
            return
        if kind.name in ("Role", "ClusterRole"):
            self._check_role(change, new)
        else:
            self._check_binding(change, new)

    def _check_role(self, change: Change, role: Object) -> None:
        old = change.old or {}
        same = all(old.get(field) == role.get(field) for field in ("rules", "aggregationRule"))
        if (change.old is not None and same) or self._may(change, "escalate", change.kind.plural, change.name):
            return
        wanted = list(role.get("rules") or ())
        if role.get("aggregationRule") and old.get("aggregationRule") != role.get("aggregationRule"):
            # It will have whatever is labelled for it: only who has everything may ask for that.
            wanted.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        self._require(change, wanted)

    def _check_binding(self, change: Change, binding: Object) -> None:
        old = change.old or {}
        if change.old is not None and all(old.get(field) == binding.get(field) for field in ("roleRef", "subjects")):
            return
        reference = binding.get("roleRef") or {}
        plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        if not self._may(change, "bind", plural, str(reference.get("name", ""))):
            self._require(change, list(self._access.rules_of(reference, change.namespace)))

    def _may(self, change: Change, verb: str, plural: str, name: str) -> bool:
        wanted = Attributes(verb=verb, group=_GROUP, resource=plural, namespace=change.namespace, name=name)
        return self._access.allows(change.author.user, wanted)

    def _require(self, change: Change, wanted: list[Object]) -> None:
        user = change.author.user
        held = list(self._access.rules(user, change.namespace))
        missing = [atom for rule in wanted for atom in _atoms(rule) if not any(_holds(rule_, atom) for rule_ in held)]
        if missing:
            told = "\n".join(sorted({_told(atom) for atom in missing})[:20])
            groups = " ".join(f'"{group}"' for group in user.groups)
            raise Refused(
                403,
                "Forbidden",
                f'{change.kind.qualified} "{change.name}" is forbidden: user "{user.name}" (groups=[{groups}]) is attempting '
                f"to grant RBAC permissions not currently held:\n{told}",
            )


_Atom = tuple[str, str, str, str, str]
"""Verb, group, resource, name; or verb and path."""


def _atoms(rule: Object) -> Iterator[_Atom]:
    for verb in rule.get("verbs") or ():
        for path in rule.get("nonResourceURLs") or ():
            yield (verb, "", "", "", path)
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for name in rule.get("resourceNames") or ("",):
                    yield (verb, group, resource, name, "")


def _holds(rule: Object, atom: _Atom) -> bool:
    verb, group, resource, name, path = atom
    if not {verb, "*"} & set(rule.get("verbs") or ()):
        return False
    if path:
        return any(
            held in ("*", path) or (held.endswith("*") and path.startswith(held[:-1]))
            for held in rule.get("nonResourceURLs") or ()
        )
    names = rule.get("resourceNames") or ()
    part = resource.partition("/")[2]
    return (
        bool({group, "*"} & set(rule.get("apiGroups") or ()))
        and bool({resource, "*", f"*/{part}" if part else "*"} & set(rule.get("resources") or ()))
        and (not names or name in names)
    )


def _told(atom: _Atom) -> str:
    verb, group, resource, name, path = atom
    if path:
        return f'{{NonResourceURLs:["{path}"], Verbs:["{verb}"]}}'
    names = f', ResourceNames:["{name}"]' if name else ""
    return f'{{APIGroups:["{group}"], Resources:["{resource}"]{names}, Verbs:["{verb}"]}}'
