"""Frozen dataclasses whose methods are made when they are first called.

The standard library writes and compiles up to ten methods for every dataclass while its module is imported: for the two hundred values of a mesh
that was more than half of what a command takes to start, and most of them are never compared, ordered or printed. Here a class gets its fields,
slots and default values from the standard library, and each method compiles itself once somebody calls it. From then on it is the same code, so
nothing is slower. Laws in tests/model/test_values.py hold both kinds of class equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        cls: Any = None, /, *, frozen: bool = False, eq: bool = True, order: bool = False, **rest: Any
    ) -> Any:
        """As the standard library's decorator, which makes classes that can be changed itself: they are few."""

        def made(given: Any) -> Any:
            if not frozen:
                return dataclasses.dataclass(given, eq=eq, order=order, **rest)
            given.__doc__ = given.__doc__ or given.__name__
            found = dataclasses.dataclass(given, init=False, repr=False, eq=False, **rest)
            for name, refused in _ALWAYS.items():
                setattr(found, name, refused)
            for name, make in _wanted(eq=eq, order=order).items():
                if name not in vars(given) or vars(given)[name] is None:
                    setattr(found, name, _at_first_use(found, name, make))
            return found

        return made if cls is None else made(cls)


Make = Callable[[Any, str], Callable[..., Any]]


def _at_first_use(cls: Any, name: str, make: Make) -> Callable[..., Any]:
    """A method that puts the real one in its place, and calls it."""

    def first(self: Any, /, *given: Any, **named: Any) -> Any:
        method = make(cls, name)
        method.__name__, method.__qualname__, method.__module__ = name, f"{cls.__qualname__}.{name}", cls.__module__
        setattr(cls, name, method)
        return method(self, *given, **named)

    return first


def _wanted(*, eq: bool, order: bool) -> dict[str, Make]:
    compared = {"__eq__": _comparison, "__hash__": _hash} if eq else {}
    ordered = dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__"), _comparison) if order else {}
    return {"__init__": _init, "__repr__": _repr, **compared, **ordered}


def _init(cls: Any, _: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"_set": object.__setattr__, "_absent": dataclasses.MISSING}
    parameters: list[str] = []
    lines: list[str] = []
    for field in sorted(dataclasses.fields(cls), key=lambda field: bool(field.kw_only)):
        name = field.name
        value, default = name, ""
        if field.default is not dataclasses.MISSING:
            scope[f"_of_{name}"], default = field.default, f"=_of_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"_of_{name}"], default = field.default_factory, "=_absent"
            value = f"_of_{name}() if {name} is _absent else {name}"
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        parameters.append(f"{name}{default}")
        slot = getattr(cls, name, None)
        if isinstance(slot, MemberDescriptorType):  # A fifth faster than to look for it in each value (measured).
            scope[f"_to_{name}"] = slot.__set__
            lines.append(f" _to_{name}(self, {value})")
        else:
            lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    return _compiled(f"def __init__({', '.join(['self', *parameters])}):\n" + "\n".join(lines or [" pass"]), scope)


_OPERATORS = {"__eq__": "==", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}


def _comparison(cls: Any, name: str) -> Callable[..., Any]:
    mine, theirs = _compared(cls, "self"), _compared(cls, "other")
    return _compiled(
        f"def {name}(self, other):\n"
        f" if other.__class__ is self.__class__:\n  return {mine} {_OPERATORS[name]} {theirs}\n return NotImplemented"
    )


def _hash(cls: Any, name: str) -> Callable[..., Any]:
    return _compiled(f"def {name}(self):\n return hash({_compared(cls, 'self')})")


def _compared(cls: Any, of: str) -> str:
    """The text of a tuple of what tells two values apart."""
    return "(" + "".join(f"{of}.{field.name}," for field in dataclasses.fields(cls) if field.compare) + ")"


def _compiled(text: str, scope: dict[str, Any] | None = None) -> Callable[..., Any]:
    found: dict[str, Any] = {}
    exec(text, {} if scope is None else scope, found)
    [function] = found.values()
    made: Callable[..., Any] = function
    return made


def _repr(cls: Any, _: str) -> Callable[..., Any]:
    shown = [field.name for field in dataclasses.fields(cls) if field.repr]
    return lambda self: f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _no_setting(self: Any, name: str, value: Any) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _no_deleting(self: Any, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _put_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_ALWAYS = {
    "__setattr__": _no_setting,
    "__delattr__": _no_deleting,
    "__getstate__": _state,
    "__setstate__": _put_state,
}
"""Of every frozen class: it is not changed, and is copied all the same."""

__all__ = ["dataclass"]
