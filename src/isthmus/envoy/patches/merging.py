"""MERGE, as Istio means it: a field that the value says is the value's; messages are merged field by field; lists get longer.

Durations and wrapped numbers are one value, not messages with fields, so that 0 can be said.
What is inside an Any is merged where both are of one type.
"""

from __future__ import annotations

from typing import Any

from isthmus.envoy.common import packed
from isthmus.envoy.patches.types import message_class

_ANY = "google.protobuf.Any"
_ONE_VALUE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Duration", "Timestamp", "BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value",
        "StringValue", "UInt32Value", "UInt64Value", "Value",
    )
)  # fmt: skip


def merge(target: Any, value: Any, *, replace_lists: bool = False) -> None:
    """Changes the target. `replace_lists`: a list that the value has takes the target's place (MERGE_AND_REPLACE_LIST)."""
    for field, said in value.ListFields():
        is_message = field.cpp_type == field.CPPTYPE_MESSAGE
        if is_message and field.message_type.GetOptions().map_entry:
            _merge_map(getattr(target, field.name), said, replace_lists=replace_lists)
        elif field.is_repeated:
            if replace_lists:
                target.ClearField(field.name)
            getattr(target, field.name).extend(said)
        elif not is_message:
            setattr(target, field.name, said)
        elif field.message_type.full_name in _ONE_VALUE or not target.HasField(field.name):
            getattr(target, field.name).CopyFrom(said)
        elif field.message_type.full_name == _ANY:
            merge_any(getattr(target, field.name), said, replace_lists=replace_lists)
        else:
            merge(getattr(target, field.name), said, replace_lists=replace_lists)


def merge_any(target: Any, value: Any, *, replace_lists: bool = False) -> None:
    """Of another type, the value takes the target's place."""
    if target.type_url != value.type_url:
        target.CopyFrom(value)
        return
    kind = message_class(value.type_url.rpartition("/")[2])
    inner = kind.FromString(target.value)
    merge(inner, kind.FromString(value.value), replace_lists=replace_lists)
    target.CopyFrom(packed(inner))


def _merge_map(target: Any, value: Any, *, replace_lists: bool) -> None:
    for key, said in value.items():
        if not hasattr(said, "DESCRIPTOR"):
            target[key] = said
        elif said.DESCRIPTOR.full_name == _ANY and key in target:
            merge_any(target[key], said, replace_lists=replace_lists)
        elif key in target and said.DESCRIPTOR.full_name not in _ONE_VALUE:
            merge(target[key], said, replace_lists=replace_lists)
        else:
            target[key].CopyFrom(said)
