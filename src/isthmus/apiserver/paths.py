"""What a request names: from its path and method to a kind, an object and a verb."""

from __future__ import annotations

import msgspec
from aiohttp import web

from isthmus.apiserver import bodies
from isthmus.apiserver.access import Attributes
from isthmus.apiserver.kinds import Kind, Kinds
from isthmus.apiserver.selectors import only_name
from isthmus.apiserver.status import method_not_allowed, no_such_path

_KNOWN_MAX = 1024


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a path names. `name` and `subresource` may be empty."""

    kind: Kind
    namespace: str
    name: str = ""
    subresource: str = ""
    is_kept: bool = True
    """Not so of a kind that is only asked."""

    def attributes(self, verb: str, fields: str = "") -> Attributes:
        """A Namespace counts as being in itself, so that a Role there can let somebody read it. Who lists or watches one name only, by a
        selector of fields, needs leave for that name.
        """
        return Attributes(
            verb=verb,
            group=self.kind.group,
            resource=self.kind.plural,
            subresource=self.subresource,
            namespace=self.namespace or (self.name if self.kind.name == "Namespace" else ""),
            name=self.name or (only_name(fields) if verb in ("list", "watch") else ""),
        )


def _target_of(kinds: Kinds, group: str, version: str, parts: list[str]) -> Target:
    """`parts` are what follows the version in the path. Raises Refused (NotFound)."""
    virtual, namespace = _virtual_target(kinds, group, version, parts)
    if virtual is not None:
        return Target(kind=virtual, namespace=namespace, is_kept=False)
    namespace = ""
    if len(parts) >= 3 and parts[0] == "namespaces" and kinds.find(group, version, parts[2]) is not None:
        # `namespaces/x/pods` are its Pods; `namespaces/x/status` is the Namespace's own status.
        namespace, parts = parts[1], parts[2:]
    kind = kinds.find(group, version, parts[0])
    if kind is None or len(parts) > 3:
        raise no_such_path()
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if subresource and subresource not in kind.subresources:
        raise no_such_path()
    if kind.namespaced and name and not namespace:
        raise no_such_path()
    if namespace and not kind.namespaced:
        raise no_such_path()
    return Target(kind=kind, namespace=namespace, name=name, subresource=subresource)


def _virtual_target(kinds: Kinds, group: str, version: str, parts: list[str]) -> tuple[Kind | None, str]:
    """A kind that is asked, not kept, and the namespace that it is asked for; None for any other path."""
    namespace = ""
    if len(parts) == 3 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    return (kinds.find_virtual(group, version, parts[0]) if len(parts) == 1 else None), namespace


class Resources:
    """What paths of resources name. Those of whole collections come all the time, and are remembered until the kinds change."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._generation = 0
        self._known: dict[str, tuple[str, Target]] = {}

    def named(self, path: str) -> tuple[str, Target] | None:
        """The version in the path, and its target; None for a path that is no resource's. Raises Refused (NotFound)."""
        if self._kinds.generation != self._generation or len(self._known) > _KNOWN_MAX:
            self._known.clear()
            self._generation = self._kinds.generation
        found = self._known.get(path)
        if found is None:
            parts = [part for part in path.split("/") if part]
            if len(parts) >= 3 and parts[0] == "api" and parts[1] == "v1":
                found = ("v1", _target_of(self._kinds, "", "v1", parts[2:]))
            elif len(parts) >= 4 and parts[0] == "apis":
                found = (parts[2], _target_of(self._kinds, parts[1], parts[2], parts[3:]))
            else:
                return None
            if not found[1].name:
                self._known[path] = found
        return found


def verb_of(request: web.BaseRequest, target: Target) -> str:
    """As roles name it. Raises Refused (MethodNotAllowed)."""
    match request.method:
        case "GET" | "HEAD":
            if request.method == "GET" and bodies.flag(request, "watch"):
                return "watch"
            return "get" if target.name else "list"
        case "POST":
            return "create"
        case "PUT" if target.name:
            return "update"
        case "PATCH" if target.name:
            return "patch"
        case "DELETE":
            return "delete" if target.name else "deletecollection"
        case _:
            raise method_not_allowed()
