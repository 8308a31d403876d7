"""Fields that an API has and Isthmus does not read: accepted, because they are somebody's, and told, because they do nothing here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from isthmus.api.registry import KINDS, Kind
from isthmus.api.unread import UNREAD
from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem, entry

# A step into every entry of a list or a mapping.
_EACH = "*"
# What says nothing that would be missed: parts of a reference whose kind is enough, descriptions, and what a controller fills in.
_WITHOUT_MEANING = {
    "group", "namespace", "port", "targetPort", "description", "ports", "ipFamilies", "internalTrafficPolicy",
    "sessionAffinity", "sessionAffinityConfig", "trafficDistribution",
}  # fmt: skip
Path = tuple[str, ...]


def unread_fields(group: str, kind: str, spec: Any) -> Iterator[Problem]:
    """Each one that somebody wrote. Of a kind that is not read at all, none is."""
    if _known(group, kind) is None:
        yield Problem(
            codes.NOT_READ, "kind", f"objects of the kind {kind} are not read: they have no effect in this version"
        )
        return
    for path in _paths(group, kind):
        for place in _written(spec, path, "spec"):
            yield Problem(codes.NOT_READ, place, f"{path[-1]} is not read: it has no effect in this version")


def _written(value: Any, path: Path, place: str) -> Iterator[str]:
    if not path:
        if value is not None:
            yield place
    elif path[0] == _EACH:
        pairs = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
        for key, inner in pairs:
            yield from _written(inner, path[1:], entry(place, key))
    elif isinstance(value, dict) and path[0] in value:
        yield from _written(value[path[0]], path[1:], f"{place}.{path[0]}")


def _known(group: str, kind: str) -> Kind | None:
    """Istio's Gateway and the Gateway API's have one name and two groups."""
    return next((known for known in KINDS.values() if known.group == group and known.plural == _plural(kind)), None)


def _plural(kind: str) -> str:
    lowered = kind.lower()
    if lowered.endswith("y") and not lowered.endswith("way"):
        return f"{lowered[:-1]}ies"
    return f"{lowered}es" if lowered.endswith("s") else f"{lowered}s"


@lru_cache(maxsize=64)
def _paths(group: str, kind: str) -> tuple[Path, ...]:
    """Where a kind's unread fields are, below its spec."""
    known = _known(group, kind)
    spec = get_type_hints(known.type).get("spec") if known is not None else None
    return tuple(path for path in _below(spec, ()) if path[-1] not in _WITHOUT_MEANING) if spec is not None else ()


def _below(kind: Any, seen: tuple[Any, ...]) -> Iterator[Path]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind in seen:
            return
        for base in kind.__mro__:
            words = UNREAD.get(f"{base.__module__.rpartition('.')[2]}.{base.__name__}", "")
            yield from ((word,) for word in words.split())
        for each in msgspec.structs.fields(kind):
            yield from ((each.encode_name, *path) for path in _below(each.type, (*seen, kind)))
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for argument in arguments:
            yield from _below(argument, seen)
    elif origin in (list, dict) and arguments:
        yield from ((_EACH, *path) for path in _below(arguments[-1], seen))
    elif arguments:
        yield from _below(arguments[0], seen)
