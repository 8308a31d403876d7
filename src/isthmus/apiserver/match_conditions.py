"""Conditions of webhooks (`matchConditions`): expressions in CEL about one change. A webhook is asked if all of them are true.

A condition sees `object` and `oldObject` as the webhook would, null where there is none, and as `request` what else the webhook would be told.
Kubernetes' `authorizer` is not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from isthmus.apiserver import expressions, names
from isthmus.apiserver.expressions import NotCompiled

Object = dict[str, Any]

_CONDITIONS_MAX = 64
_VARIABLES = ("object", "oldObject", "request")
_AUTHORIZER = re.compile(r"(?<![\w.])authorizer\b")
_FIELDS = re.compile(r"(?<![\w.])request\.(\w+)")
_KNOWN_FIELDS = frozenset(
    ("kind", "resource", "subResource", "requestKind", "requestResource", "requestSubResource", "name", "namespace",
     "operation", "userInfo", "dryRun", "options")
)  # fmt: skip


class Condition(msgspec.Struct, frozen=True):
    name: str = ""
    expression: str = ""


class NotEvaluated(Exception):
    """No condition is false, and one cannot be told: in words, which and why."""


def wrong(conditions: Sequence[Condition]) -> tuple[str, str]:
    """The field, seen from the list, and what is wrong with it; empty if nothing is."""
    if len(conditions) > _CONDITIONS_MAX:
        return "", f"Too many: {len(conditions)}: must have at most {_CONDITIONS_MAX} items"
    seen = set()
    for position, condition in enumerate(conditions):
        field, why = _wrong(condition)
        if not why and condition.name in seen:
            field, why = "name", f"Duplicate value: {_quoted(condition.name)}"
        if why:
            return f"[{position}].{field}", why
        seen.add(condition.name)
    return "", ""


def _wrong(condition: Condition) -> tuple[str, str]:
    if not condition.expression.strip():
        return "expression", "Required value"
    try:
        _program(condition.expression)
    except NotCompiled as error:
        return "expression", f"Invalid value: {_quoted(condition.expression)}: {error}"
    if not condition.name:
        return "name", "Required value"
    for why in names.qualified(condition.name):
        return "name", f"Invalid value: {_quoted(condition.name)}: {why}"
    return "", ""


def hold(conditions: Sequence[Condition], request: Object) -> bool:
    """Whether a webhook with these conditions is asked. `request` is what it would be told. One that is false settles it, whatever the
    others are. Raises NotEvaluated."""
    if not conditions:
        return True
    data = {"object": request["object"], "oldObject": request["oldObject"]}
    data["request"] = {field: value for field, value in request.items() if field in _KNOWN_FIELDS}
    failures = []
    for condition in conditions:
        answer, error = _answer(condition.expression, data)
        if answer is False:
            return False
        if answer is not True:
            why = error or "it is neither true nor false"
            failures.append(f"expression '{condition.expression}' resulted in error: {why}")
    if failures:
        raise NotEvaluated(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    return True


def _answer(text: str, data: Object) -> tuple[Any, str]:
    """An expression that is stored may be one that an older server could compile, and this one cannot."""
    try:
        program = _program(text)
    except NotCompiled as error:
        return None, str(error)
    return expressions.evaluated(program, data)


@lru_cache(maxsize=1024)
def _program(text: str) -> Any:
    """Raises NotCompiled. Kubernetes knows the types of a request's fields, and therefore takes its only truth value as an answer, and refuses
    fields that no request has."""
    said = expressions.without_texts(text)
    if _AUTHORIZER.search(said):
        message = "compilation failed: this server has no 'authorizer' for conditions; there are object, oldObject and request"
        raise NotCompiled(message, is_wrong=False)
    program, kind = expressions.compiled(text, _VARIABLES)
    unknown = [field for field in _FIELDS.findall(said) if field not in _KNOWN_FIELDS]
    if unknown:
        raise NotCompiled(f"compilation failed: undefined field '{unknown[0]}'", is_wrong=True)
    if kind != "bool" and text.strip() != "request.dryRun":
        raise NotCompiled("must evaluate to bool", is_wrong=True)
    return program


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
