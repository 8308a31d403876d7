"""Sets of fields, in the form of FieldsV1: which parts of an object somebody has set, what two objects differ in, and what is left of an object
when fields are taken away.

A set is a tree of dicts. A key names a field (`f:spec`), an item of a list by its keys (`k:{"name":"a"}`) or by its value (`v:"x"`). A node
without children is in the set; one with children is if it has `.` among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from isthmus.apiserver.schemas import ANY, Schema

Fields = dict[str, Any]

ABSENT: Any = object()
_DOT = "."
_WITHOUT_PARTS = frozenset((str, int, float, bool, type(None)))
_encode = msgspec.json.Encoder(order="sorted").encode


class Ambiguous(ValueError):
    """Two items of a list that cannot be told apart; the text names the list."""


def owned(value: Any, schema: Schema) -> Fields:
    """What an applied configuration sets. Raises Ambiguous."""
    found: Fields = {}
    for key, child, child_schema in _children(value, schema):
        if isinstance(child, list) and _has_parts(child_schema) and not _distinct(child, child_schema):
            raise Ambiguous(f"items in {key[2:]} with the same {', '.join(child_schema.keys) or 'value'}, or without")
        inside = owned(child, child_schema) if _is_container(child, child_schema) else {}
        is_field = key.startswith("f:") and key[2:] in schema.fields
        found[key] = inside if is_field or not inside else inside | {_DOT: {}}
    return found


def added(value: Any, schema: Schema, but: frozenset[str] = frozenset()) -> Fields:
    """All that a new value has, `but` for some fields of a map: what `compare` finds between nothing and it, in one walk."""
    found: Fields = {}
    if isinstance(value, dict):
        if not but and _WITHOUT_PARTS.issuperset(map(type, value.values())):
            return dict(
                zip(map("f:".__add__, value), iter(dict, None), strict=False)
            )  # Each with an empty set of its own.
        fields, values = schema.fields, schema.values or ANY
        for name, child in value.items():
            if name in but:
                continue
            if isinstance(child, dict | list):
                known = fields.get(name) or values
                inside = added(child, known) if not known.atomic and _is_container(child, known) else None
                found[f"f:{name}"] = inside | {_DOT: {}} if inside else {}
            else:
                found[f"f:{name}"] = {}
        return found
    for key, child, known in _children(value, schema):
        inside = added(child, known) if _is_container(child, known) else None
        found[key] = inside | {_DOT: {}} if inside else {}
    return found


def compare(old: Any, new: Any, schema: Schema) -> tuple[Fields, Fields]:
    """What is new or other in `new`, and what it has no more."""
    changed: Fields = {}
    removed: Fields = {}
    _compare(old, new, schema, changed, removed)
    return changed, removed


def union(one: Fields, other: Fields) -> Fields:
    result = dict(one)
    for key, node in other.items():
        result[key] = (
            node if key not in one else _node(_has(one[key]) or _has(node), union(_below(one[key]), _below(node)))
        )
    return result


def difference(one: Fields, other: Fields) -> Fields:
    result: Fields = {}
    for key, node in one.items():
        if key not in other:
            result[key] = node
            continue
        member = _has(node) and not _has(other[key])
        children = difference(_below(node), _below(other[key]))
        if member or children:
            result[key] = _node(member, children)
    return result


def intersection(one: Fields, other: Fields) -> Fields:
    result: Fields = {}
    for key, node in one.items():
        if key in other:
            member = _has(node) and _has(other[key])
            children = intersection(_below(node), _below(other[key]))
            if member or children:
                result[key] = _node(member, children)
    return result


def paths(fields: Fields, path: str = "") -> Iterator[str]:
    """As messages write them: `.spec.containers[name="a"].image`."""
    for key, node in fields.items():
        if key == _DOT:
            continue
        here = path + _written(key)
        if _has(node):
            yield here
        yield from paths(_below(node), here)


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """What is applied over what there is: maps and keyed lists piece by piece, everything else whole."""
    if not (_is_container(live, schema) and _is_container(config, schema)) or type(live) is not type(config):
        return config
    before = {key: value for key, value, _ in _children(live, schema)}
    applied = {key: (value, child) for key, value, child in _children(config, schema)}
    merged = {key: merge(before.get(key), value, child) for key, (value, child) in applied.items()}
    if isinstance(live, dict):
        return live | {key[2:]: value for key, value in merged.items()}
    return list(_in_order(before, merged))


def without(value: Any, last: Fields, kept: Fields, schema: Schema) -> Any:
    """The value without what is in `last`, except for what is in `kept`. ABSENT if nothing is left of it."""
    if not _is_container(value, schema):
        return value
    left: dict[str, Any] = {}
    for key, child, child_schema in _children(value, schema):
        if key in last and key not in kept and _has(last[key]):
            continue
        if key in last and _below(last[key]):
            child = without(child, _below(last[key]), _below(kept.get(key, {})), child_schema)
        if child is not ABSENT:
            left[key] = child
    if not left and value:
        return ABSENT
    return {key[2:]: child for key, child in left.items()} if isinstance(value, dict) else list(left.values())


def _compare(old: Any, new: Any, schema: Schema, changed: Fields, removed: Fields) -> None:
    before = {key: (value, child) for key, value, child in _children(_where_other(old, new), schema)}
    after = {key: (value, child) for key, value, child in _children(_where_other(new, old), schema)}
    for key in [*before, *(key for key in after if key not in before)]:
        was, child = before.get(key) or (ABSENT, ANY)
        now, child = after.get(key) or (ABSENT, child)
        if was is not ABSENT and was == now:
            continue
        if now is ABSENT:
            target, there = removed, was
        else:
            target, there = changed, now
        if not _is_container(there, child) or (
            was is not ABSENT and now is not ABSENT and not _is_container(was, child)
        ):
            target[key] = {}
            continue
        inside_changed: Fields = {}
        inside_removed: Fields = {}
        _compare(was, now, child, inside_changed, inside_removed)
        if was is ABSENT or now is ABSENT:
            inside = inside_changed if was is ABSENT else inside_removed
            target[key] = inside | {_DOT: {}} if inside else {}
            continue
        if inside_changed:
            changed[key] = inside_changed
        if inside_removed:
            removed[key] = inside_removed


def _where_other(value: Any, other: Any) -> Any:
    """A map without the fields that are the same: most of an object is."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: each for name, each in value.items() if name not in other or other[name] != each}
    return value


def _is_container(value: Any, schema: Schema) -> bool:
    """Whether it is made of parts that different people may set."""
    if isinstance(value, dict):
        return not schema.atomic
    return isinstance(value, list) and _has_parts(schema) and _distinct(value, schema)


def _has_parts(schema: Schema) -> bool:
    """Whether a list is one of things that are told apart."""
    return not schema.atomic and (schema.is_set or bool(schema.keys))


def _distinct(value: list[Any], schema: Schema) -> bool:
    keys = [_item_key(item, schema) for item in value]
    return None not in keys and len(set(keys)) == len(keys)


def _children(value: Any, schema: Schema) -> Iterator[tuple[str, Any, Schema]]:
    if isinstance(value, dict):
        if not schema.atomic:
            for name, child in value.items():
                yield f"f:{name}", child, schema.child(name)
    elif isinstance(value, list) and _has_parts(schema) and _distinct(value, schema):
        for item in value:
            key = _item_key(item, schema)
            assert key is not None, "distinct"
            yield key, item, schema.items or ANY


def _item_key(item: Any, schema: Schema) -> str | None:
    if schema.is_set:
        return None if isinstance(item, dict | list) else f"v:{_encode(item).decode()}"
    if not isinstance(item, dict):
        return None
    known = {key: item.get(key, schema.key_defaults.get(key)) for key in schema.keys}
    found = {key: value for key, value in known.items() if value is not None}
    return f"k:{_encode(found).decode()}" if found else None


def _in_order(before: dict[str, Any], merged: dict[str, Any]) -> Iterator[Any]:
    """The applied order; what is only there already stays behind what it was behind."""
    waiting = list(before)
    for key, value in merged.items():
        if key in waiting:
            position = waiting.index(key)
            yield from (before[other] for other in waiting[:position] if other not in merged)
            waiting = waiting[position + 1 :]
        yield value
    yield from (before[other] for other in waiting if other not in merged)


def _has(node: Fields) -> bool:
    return not node or _DOT in node


def _below(node: Fields) -> Fields:
    return {key: child for key, child in node.items() if key != _DOT} if _DOT in node else node


def _node(member: bool, children: Fields) -> Fields:
    return children | {_DOT: {}} if member and children else children


def _written(key: str) -> str:
    kind, _, text = key.partition(":")
    if kind == "f":
        return f".{text}"
    if kind == "k":
        pairs = msgspec.json.decode(text).items()
        return "[" + ",".join(f"{name}={_encode(value).decode()}" for name, value in pairs) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"
