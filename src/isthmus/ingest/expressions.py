"""Expressions (CEL) that Envoy evaluates for each request. It refuses one that it cannot read, with the whole listener around it.

The parser is the one that Envoy has. Beyond the grammar Envoy knows less than others do: no loops, no messages, few functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from isthmus.model.regular_expressions import not_re2

_CONVERSIONS = ("bool", "bytes", "double", "duration", "dyn", "int", "size", "timestamp", "type", "uint")
_COMPARISONS = ("contains", "endsWith", "matches", "startsWith")
_TIMES = (
    "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth",
    "getSeconds",
)  # fmt: skip
_OPERATORS = frozenset((
    "_?_:_", "_&&_", "_||_", "!_", "-_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_+_", "_-_", "_*_", "_/_", "_%_", "_[_]", "@in",
))  # fmt: skip
_FUNCTIONS = frozenset((
    *((name, False, 1) for name in _CONVERSIONS),
    *((name, False, 2) for name in _COMPARISONS),
    *((name, True, 1) for name in _COMPARISONS),
    *((name, True, count) for name in _TIMES for count in (0, 1)),
    ("size", True, 0),
))  # fmt: skip
"""What Envoy 1.40 has, each with whether it is called of a value, and with how many arguments beside that."""


_REMEMBERED = 4096
"""Characters. Longer ones are judged each time: what is remembered has a bound in bytes, too."""


def not_cel(text: str) -> str:
    """Why Envoy would refuse it; empty when it would not."""
    return _not_cel_once(text) if len(text) <= _REMEMBERED else _not_cel(text)


def _not_cel(text: str) -> str:
    try:
        parsed = _parsed(text)
    except (RuntimeError, ValueError) as error:
        return f"it cannot be read as CEL: {str(error).splitlines()[0]:.200}"
    return next(_refused(parsed), "")


_not_cel_once = lru_cache(maxsize=1024)(_not_cel)


def _parsed(text: str) -> Any:
    """Its tree. Modules are imported when the first expression is there: most meshes have none."""
    from cel.expr import syntax_pb2
    from google.protobuf.any_pb2 import Any as AnyMessage

    parsed = syntax_pb2.ParsedExpr()
    AnyMessage.FromString(_environment().compile(text, disable_check=True).serialize()).Unpack(parsed)
    return parsed.expr


@cache
def _environment() -> Any:
    from cel_expr_python import cel

    return cel.NewEnv()


def _refused(part: Any) -> Iterator[str]:
    """Of a part of an expression and of all that is in it."""
    match part.WhichOneof("expr_kind"):
        case "call_expr":
            yield from _refused_call(part.call_expr)
        case "select_expr":
            yield from _refused(part.select_expr.operand)
        case "list_expr":
            for each in part.list_expr.elements:
                yield from _refused(each)
        case "struct_expr":
            if part.struct_expr.message_name:
                yield f"Envoy makes no messages: {part.struct_expr.message_name}"
            for each in part.struct_expr.entries:
                yield from _refused(each.map_key)
                yield from _refused(each.value)
        case "comprehension_expr":
            yield "Envoy has no loops (all, exists, exists_one, filter, map)"


def _refused_call(call: Any) -> Iterator[str]:
    name, arguments = call.function, call.args
    is_of_value = call.HasField("target")
    if name not in _OPERATORS and (name, is_of_value, len(arguments)) not in _FUNCTIONS:
        yield f"Envoy has no function {'VALUE.' if is_of_value else ''}{name} with {len(arguments)} arguments"
    if name == "matches" and arguments and (why := not_re2(arguments[-1].const_expr.string_value)):
        yield f"its regular expression {arguments[-1].const_expr.string_value!r:.60}: {why}"
    for each in (call.target, *arguments) if is_of_value else arguments:
        yield from _refused(each)
