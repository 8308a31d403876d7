"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import bad_request

Object = dict[str, Any]
Matches = Callable[[Object], bool]

_SET = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_SIMPLE = re.compile(r"\s*(!?)\s*([^\s!=,()]+)\s*(?:(==|!=|=)\s*([^\s,()]*))?\s*")

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "type", "source",
    ),
    "CertificateSigningRequest": ("spec.signerName",),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
    "ReplicaSet": ("status.replicas",),
    "Job": ("status.successful",),
}  # fmt: skip


def label_selector(text: str) -> Matches | None:
    """Comma-separated requirements; None for an empty text. Raises Refused."""
    tests = [_requirement(part) for part in _split(text) if part.strip()]
    if not tests:
        return None
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def only_name(text: str) -> str:
    """The one name that a selector of fields leaves; empty if it leaves others."""
    for part in text.split(","):
        found = re.fullmatch(r"\s*metadata\.name\s*==?\s*([^\s/%]+)\s*", part)
        if found:
            return found[1]
    return ""


def is_of_metadata(text: str) -> bool:
    """Whether a selector of fields asks for nothing but names and namespaces."""
    return all(part.strip().startswith("metadata.") for part in text.split(",") if part.strip())


def field_selector(text: str, kind: Kind) -> Matches | None:
    """`metadata.name` and `metadata.namespace` everywhere, and what a kind adds. Raises Refused for any other field."""
    tests: list[Matches] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if not found:
            raise bad_request(f'invalid field selector "{part}"')
        path, operator, value = found[1].strip(), found[2], found[3].strip()
        if path not in ("metadata.name", "metadata.namespace", *_FIELDS.get(kind.name, ())):
            raise bad_request(f"field label not supported: {path}")
        tests.append(_field_test(path, operator != "!=", value))
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)


def from_label_selector(selector: Mapping[str, Any]) -> Matches:
    """A LabelSelector object (`matchLabels`, `matchExpressions`)."""
    wanted = dict(selector.get("matchLabels") or {})
    expressions = list(selector.get("matchExpressions") or ())

    def matches(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(labels.get(k) == v for k, v in wanted.items()) and all(_expression(e, labels) for e in expressions)

    return matches


def text_of(selector: Mapping[str, Any]) -> str:
    """A LabelSelector as a query has it, in the order of its keys. A ReplicationController's has nothing but labels."""
    is_plain = all(isinstance(value, str) for value in selector.values())
    labels = selector if is_plain else selector.get("matchLabels") or {}
    said = [(key, f"{key}={value}") for key, value in labels.items()]
    for expression in () if is_plain else selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        match expression["operator"]:
            case "In":
                said.append((key, f"{key} in ({values})"))
            case "NotIn":
                said.append((key, f"{key} notin ({values})"))
            case "Exists":
                said.append((key, key))
            case _:
                said.append((key, f"!{key}"))
    return ",".join(text for _, text in sorted(said))


def check_label_selector(selector: Mapping[str, Any]) -> None:
    """Raises Refused for one that `from_label_selector` cannot read."""
    try:
        shape = msgspec.convert(selector, _LabelSelector)
    except msgspec.ValidationError as error:
        raise bad_request(str(error)) from None
    for expression in shape.match_expressions or ():
        if bool(expression.values) is not (expression.operator in ("In", "NotIn")):
            raise bad_request(f"{expression.key}: values go with In and NotIn, and only with these")


class _Expression(msgspec.Struct):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] | None = None


class _LabelSelector(msgspec.Struct, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Expression] | None = None


def value_at(obj: Object, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _field_test(path: str, equal: bool, value: str) -> Matches:
    return lambda obj: (value_at(obj, path) == value) is equal


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or ()
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _split(text: str) -> list[str]:
    """At commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    found = _SET.fullmatch(text)
    if found:
        key, values = found[1], {value.strip() for value in found[3].split(",")}
        if found[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    simple = _SIMPLE.fullmatch(text)
    if not simple:
        raise bad_request(f'unable to parse requirement: "{text}"')
    absent, key, operator, value = simple[1], simple[2], simple[3], simple[4] or ""
    if not operator:
        return lambda labels: (key not in labels) if absent else (key in labels)
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value
