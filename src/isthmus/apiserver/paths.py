"""What a request names: from its path and method to a kind, an object and a verb."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from isthmus.apiserver import bodies
from isthmus.apiserver.access import Attributes
from isthmus.apiserver.kinds import Kind, Kinds
from isthmus.apiserver.selectors import only_name
from isthmus.apiserver.status import method_not_allowed, no_such_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names. `name` and `subresource` may be empty."""

    kind: Kind
    namespace: str
    name: str
    subresource: str

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


def target_of(kinds: Kinds, group: str, version: str, parts: list[str]) -> Target:
    """`parts` are what follows the version in the path. Raises Refused (NotFound)."""
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


def virtual_target(kinds: Kinds, group: str, version: str, parts: list[str]) -> tuple[Kind | None, str]:
    """A kind that is asked, not kept, and the namespace that it is asked for; None for any other path."""
    namespace = ""
    if len(parts) == 3 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    return (kinds.find_virtual(group, version, parts[0]) if len(parts) == 1 else None), namespace


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
