"""Rules of custom kinds (`x-kubernetes-validations`), which are expressions in CEL: compiled once for a definition, asked of each object.

A rule sees its value as `self`, in the types that the schema says. A rule that names `oldSelf` is asked of changes only, where the old value can be
told: not inside lists whose items are not told apart by keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from isthmus.apiserver import expressions
from isthmus.apiserver.expressions import NotCompiled
from isthmus.apiserver.validation import Fault, has_expressions

Object = dict[str, Any]

FIELD = "x-kubernetes-validations"
_MAY_BE_OLD = "cel.bind(oldSelf, has(old__.self) ? optional.of(old__.self) : optional.none(), ({rule}\n))"
"""CEL's variables cannot be optional values; this makes one."""
_VARIABLES = ("self", "oldSelf", "old__")
_NAMES_OLD = re.compile(r"\boldSelf\b")
_WORDS = frozenset(
    ("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
     "namespace", "return", "var", "void", "while")
)  # fmt: skip
_SIGNS = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_MESSAGES = {"FieldValueForbidden": "Forbidden: {told}", "FieldValueRequired": "Required value: {told}"}
_BLOCKING = frozenset({"FieldValueRequired", "FieldValueTooLong", "FieldValueTypeInvalid"})
UNCHECKED = Fault(
    "<nil>",
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
)
_ABSENT: Any = object()
_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    text: str
    program: Any
    message: str
    message_program: Any | None
    reason: str
    field_path: str
    of_changes: bool
    """Whether it names the old value."""
    also_new: bool
    """Whether it is asked, too, where there is no old value."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rules:
    """Those of one value, and of what is in it."""

    schema: Object
    rules: tuple[_Rule, ...]
    fields: Mapping[str, Rules]
    values: Rules | None
    items: Rules | None

    @property
    def empty(self) -> bool:
        return not (self.rules or self.fields or self.values or self.items)


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that cannot be asked; or, if it `is_message`, one that is asked, and whose message is not computed. `is_wrong`: no server could."""

    path: str
    what: str
    is_wrong: bool
    is_message: bool = False


def rules_of(version: Object) -> Rules | None:
    """Those of a version of a CustomResourceDefinition; None if it has none."""
    schema = _schema(version)
    return _compiled(msgspec.json.encode(schema))[0] if has_expressions(schema) else None


def problems_of(definition: Object) -> list[Problem]:
    """What is wrong with rules, or with their messages. The schemas must be structural."""
    found = []
    for position, version in enumerate(definition["spec"]["versions"]):
        schema = _schema(version)
        if has_expressions(schema):
            head = f"spec.versions[{position}].schema.openAPIV3Schema"
            _, problems = _compiled(msgspec.json.encode(schema))
            found += [replace(problem, path=head + problem.path) for problem in problems]
    return found


def _schema(version: Object) -> Object:
    return (version.get("schema") or {}).get("openAPIV3Schema") or {}


@lru_cache(maxsize=256)
def _compiled(schema: bytes) -> tuple[Rules | None, tuple[Problem, ...]]:
    problems: list[Problem] = []
    rules = _node(msgspec.json.decode(schema), "", problems)
    return (None if rules.empty else rules), tuple(problems)


def faults(rules: Rules, new: Object, old: Object | None, found: list[Fault]) -> Iterator[Fault]:
    """What the rules say against an object. `found` is what the schema says: an object of the wrong shape is not shown to rules."""
    if any(fault.reason in _BLOCKING for fault in found):
        yield UNCHECKED
        return
    before = _ABSENT if old is None else old
    shown_before = _ABSENT if old is None else _shown(rules.schema, old)
    yield from _faults(rules, new, _shown(rules.schema, new), before, shown_before, "")


def _node(schema: Object, path: str, problems: list[Problem]) -> Rules:
    rules = []
    said = schema.get(FIELD) or []
    for position, raw in enumerate(said if isinstance(said, list) else [said]):
        rule = _rule(raw, f"{path}.{FIELD}[{position}]", problems)
        if rule is not None:
            rules.append(rule)
    inside = {
        name: _node(each, f"{path}.properties[{name}]", problems)
        for name, each in (schema.get("properties") or {}).items()
    }
    parts = {
        name: _node(schema[name], f"{path}.{name}", problems) if isinstance(schema.get(name), dict) else None
        for name in ("additionalProperties", "items")
    }
    values, items = (part if part is not None and not part.empty else None for part in parts.values())
    fields = {name: each for name, each in inside.items() if not each.empty}
    return Rules(schema=schema, rules=tuple(rules), fields=fields, values=values, items=items)


def _rule(raw: Any, path: str, problems: list[Problem]) -> _Rule | None:
    if not isinstance(raw, dict):
        problems.append(Problem(path, "a rule is an object", is_wrong=True))
        return None
    text = str(raw.get("rule", ""))
    also_new = bool(raw.get("optionalOldSelf"))
    try:
        program = _compile(_MAY_BE_OLD.format(rule=text) if also_new else text, "bool")
    except NotCompiled as error:
        problems.append(Problem(f"{path}.rule", str(error), error.is_wrong))
        return None
    message_program = None
    if raw.get("messageExpression"):
        try:
            message_program = _compile(str(raw["messageExpression"]), "string")
        except NotCompiled as error:
            problems.append(Problem(f"{path}.messageExpression", str(error), error.is_wrong, is_message=True))
    return _Rule(
        text=text,
        program=program,
        message=str(raw.get("message", "")),
        message_program=message_program,
        reason=str(raw.get("reason") or "FieldValueInvalid"),
        field_path=str(raw.get("fieldPath", "")),
        of_changes=bool(_NAMES_OLD.search(expressions.without_texts(text))),
        also_new=also_new,
    )


def _compile(text: str, result: str) -> Any:
    """Raises NotCompiled."""
    program, kind = expressions.compiled(text, _VARIABLES)
    if kind not in (result, "dyn"):
        raise NotCompiled(f"must evaluate to a {result}, not {kind}", is_wrong=True)
    return program


def _faults(rules: Rules, new: Any, shown: Any, old: Any, shown_old: Any, path: str) -> Iterator[Fault]:
    """What has not changed is held against nobody, but for rules about changes."""
    if new is None:
        return
    same = old is not _ABSENT and new == old
    for rule in rules.rules:
        if (rule.of_changes and not rule.also_new and old is _ABSENT) or (same and not rule.of_changes):
            continue
        fault = _asked(rule, rules.schema.get("type") or "object", shown, shown_old, path)
        if fault is not None:
            yield fault
    if isinstance(new, dict):
        for name, each in new.items():
            inside, key = (rules.fields[name], _escaped(name)) if name in rules.fields else (rules.values, name)
            if inside is not None:
                known = isinstance(old, dict) and name in old
                was, shown_was = (old[name], shown_old[key]) if known else (_ABSENT, _ABSENT)
                where = f"{path}.{name}" if path else name
                if name not in rules.fields:
                    where = f"{path}[{name}]"
                yield from _faults(inside, each, shown[key], was, shown_was, where)
    elif isinstance(new, list) and rules.items is not None:
        positions = _positions(rules.schema, old)
        for position, each in enumerate(new):
            at = positions.get(_key(rules.schema, each), -1) if positions else -1
            was, shown_was = (old[at], shown_old[at]) if at >= 0 else (_ABSENT, _ABSENT)
            yield from _faults(rules.items, each, shown[position], was, shown_was, f"{path}[{position}]")


def _asked(rule: _Rule, kind: str, shown: Any, shown_old: Any, path: str) -> Fault | None:
    data = {"self": shown, "oldSelf": None if shown_old is _ABSENT else shown_old}
    data["old__"] = {} if shown_old is _ABSENT else {"self": shown_old}
    answer, error = expressions.evaluated(rule.program, data)
    if answer is True:
        return None
    told = _told(rule, data)
    if error:
        return Fault(path, "FieldValueInvalid", f'Invalid value: "{kind}": {error} evaluating rule: {told}')
    where = path + (rule.field_path if path else rule.field_path.removeprefix("."))
    message = _MESSAGES.get(rule.reason, 'Invalid value: "{kind}": {told}').format(kind=kind, told=told)
    if rule.reason == "FieldValueDuplicate":
        message = f'Duplicate value: "{kind}"'
    return Fault(where, rule.reason, message)


def _told(rule: _Rule, data: Object) -> str:
    if rule.message_program is not None:
        text, error = expressions.evaluated(rule.message_program, data)
        if not error and isinstance(text, str) and text.strip() and "\n" not in text:
            return text.strip()
    return rule.message.strip() or f"failed rule: {rule.text}"


def _positions(schema: Object, old: Any) -> dict[Any, int]:
    """Where the items of the old list were, if they are told apart."""
    if not isinstance(old, list) or schema.get("x-kubernetes-list-type") != "map":
        return {}
    return {_key(schema, each): position for position, each in enumerate(old)}


def _key(schema: Object, item: Any) -> tuple[Any, ...]:
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    return tuple(str(item.get(key)) if isinstance(item, dict) else None for key in keys)


def _shown(schema: Object, value: Any) -> Any:
    """A value as rules see it: fields by names that CEL can say, texts with a format and numbers as what they stand for."""
    if isinstance(value, dict):
        fields, others = schema.get("properties") or {}, schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        return {
            _escaped(name) if name in fields else name: _shown(fields.get(name, others), each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items")
        return [_shown(items if isinstance(items, dict) else {}, each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(schema, value)
    if isinstance(value, str) and schema.get("format") in _FORMATS:
        try:
            return _FORMATS[schema["format"]](value)
        except (ValueError, OverflowError):
            return value  # The schema has said already what is wrong with it, or it is beyond what can be counted.
    return value


def _number(schema: Object, value: float) -> float:
    """What does not fit into CEL's whole numbers is seen as a fraction, as Kubernetes reads it."""
    if schema.get("type") == "integer" and abs(value) <= _INTEGER_MAX:
        return int(value)
    if schema.get("type") != "number" and abs(value) <= _INTEGER_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _escaped(name: str) -> str:
    if name in _WORDS:
        return f"__{name}__"
    for sign, word in _SIGNS:
        name = name.replace(sign, word)
    return name


_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}


def _duration(text: str) -> Duration:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w)", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    found = Duration()
    found.FromTimedelta(timedelta(seconds=-seconds if text.startswith("-") else seconds))
    return found


def _time(text: str) -> Timestamp:
    time = datetime.fromisoformat(text)
    found = Timestamp()
    found.FromDatetime(time if time.tzinfo is not None else time.replace(tzinfo=UTC))
    return found


_FORMATS = {"date-time": _time, "date": _time, "duration": _duration}
