"""Expressions in CEL: compiled once, evaluated often."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from isthmus.apiserver import rule_functions

_TEXTS = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")


class NotCompiled(Exception):
    """`is_wrong`: no server could compile it."""

    def __init__(self, text: str, *, is_wrong: bool) -> None:
        super().__init__(text)
        self.is_wrong = is_wrong


def compiled(text: str, variables: tuple[str, ...]) -> tuple[Any, str]:
    """A program, and the type of what it gives: `dyn` where that is known only later. Raises NotCompiled."""
    try:
        program = _environment(variables).compile(text)
    except RuntimeError as error:
        first = str(error).removeprefix("INVALID_ARGUMENT: ").partition("\n")[0]
        raise NotCompiled(f"compilation failed: {first}", is_wrong="Syntax error" in first) from None
    return program, program.return_type().name().lower()


def without_texts(text: str) -> str:
    """An expression without what it quotes: what is left are names and signs."""
    return _TEXTS.sub("", text)


def evaluated(program: Any, data: dict[str, Any]) -> tuple[Any, str]:
    """What it says, or why it says nothing."""
    try:
        value = program.eval(data=data)
    except RuntimeError as error:
        return None, str(error)
    plain = value.plain_value()
    return (None, str(plain)) if value.type().name() == "ERROR" else (plain, "")


@cache
def _environment(variables: tuple[str, ...]) -> Any:
    """Loaded when the first expression comes: a cluster without any does without 20 MB."""
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

    types = {"string": cel.Type.STRING, "list": cel.Type.LIST, "dyn": cel.Type.DYN, "bool": cel.Type.BOOL,
             "int": cel.Type.INT, "double": cel.Type.DOUBLE}  # fmt: skip
    overloads: dict[str, list[Any]] = {}
    for number, (name, result, arguments, implementation) in enumerate(rule_functions.all_functions()):
        overloads.setdefault(name.removeprefix("."), []).append(
            cel.Overload(
                f"kubernetes_{number}",
                return_type=types[result],
                parameters=[types[argument] for argument in arguments],
                is_member=name.startswith("."),
                impl=implementation,
            )
        )
    functions = cel.CelExtension("kubernetes", [cel.FunctionDecl(name, each) for name, each in overloads.items()])
    return cel.NewEnv(
        variables=dict.fromkeys(variables, cel.Type.DYN),
        extensions=[
            ext_strings.ExtStrings(),
            ext_optional.ExtOptional(),
            ext_bindings.ExtBindings(),
            ext_math.ExtMath(),
            ext_encoders.ExtEncoders(),
            functions,
        ],
    )
