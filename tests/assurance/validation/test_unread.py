"""Validation, the types that are read, and the list of what is not: the three agree about every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from isthmus.api.registry import KINDS, Kind
from isthmus.assurance.validation import problems_of
from isthmus.assurance.validation.shapes import Shape
from isthmus.assurance.validation.unread import _known, _paths, unread_fields
from isthmus.assurance.validation.validating import _KINDS

# One type serves two places; in this one of them, the API does not have the field.
ELSEWHERE = {
    "spec.tls.route.headers",
    "spec.tcp.route.headers",
    "spec.tcp.match.sniHosts",
    "spec.trafficPolicy.port",
    "spec.subsets.trafficPolicy.port",
}
READ = [(group, name, known) for group, name in _KINDS if (known := _known(group, name)) is not None]


def written(path: tuple[str, ...]) -> Any:
    """The smallest value that has something at this path."""
    if not path:
        return "something"
    inner = written(path[1:])
    return [inner] if path[0] == "*" else {path[0]: inner}


@pytest.mark.parametrize(("group", "kind", "known"), READ)
def test_every_field_that_is_not_read_is_told_where_it_stands(group: str, kind: str, known: Kind) -> None:
    for path in _paths(group, kind):
        [found] = unread_fields(group, kind, written(path))

        assert found.path == "spec" + "".join("[0]" if step == "*" else f".{step}" for step in path)
        assert path[-1] in found.what


def test_what_is_read_is_not_told() -> None:
    spec = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}

    assert list(unread_fields("networking.istio.io", "VirtualService", spec)) == []


def test_a_kind_that_nobody_reads_is_told_as_a_whole() -> None:
    plugin = {
        "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin", "metadata": {"name": "a"}, "spec": {"url": "a"}
    }  # fmt: skip

    assert [(problem.code.id, problem.path) for problem in problems_of(plugin)] == [("ISM0737", "kind")]


def missing(type_: Any, shape: Shape | None, path: str, seen: tuple[Any, ...] = ()) -> Iterator[str]:
    """Fields of a type that the shape beside it would refuse."""
    if shape is None or shape.type == "any":
        return
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        if type_ in seen or shape.type != "record":
            return
        for field in msgspec.structs.fields(type_):
            inner = shape.fields.get(field.encode_name)
            if inner is None and not shape.is_open:
                yield f"{path}.{field.encode_name}"
            yield from missing(field.type, inner, f"{path}.{field.encode_name}", (*seen, type_))
        return
    for argument in get_args(type_):
        beside = shape.item if shape.type in ("many", "mapping") else shape
        yield from missing(argument, beside, path, seen)


@pytest.mark.parametrize(("group", "kind", "known"), READ)
def test_every_field_that_is_read_is_valid(group: str, kind: str, known: Kind) -> None:
    spec = get_type_hints(known.type).get("spec")

    assert set(missing(spec, _KINDS[group, kind].shape, "spec")) - ELSEWHERE == set()


def test_kinds_of_the_registry_are_judged() -> None:
    foreign = {"", "apps", "discovery.k8s.io", "rbac.authorization.k8s.io"}
    custom = {(kind.group, kind.plural) for kind in KINDS.values() if kind.group not in foreign and kind.is_custom}
    judged = {(known.group, known.plural) for _, _, known in READ}

    assert custom - judged == set()
