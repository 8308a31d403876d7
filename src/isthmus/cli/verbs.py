"""The questions that `isthmus batch` answers. Each is one function from parameters to an answer; none keeps anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Object = dict[str, Any]


def _render(params: Object) -> Object:
    from isthmus.assurance.rendering import render
    from isthmus.assurance.scenario import scenario_of

    return render(scenario_of(_scenario(params["scenario"])), params["proxy"])


def _spiffe_parse(params: Object) -> Object:
    from isthmus.model.identity import SpiffeId

    try:
        SpiffeId.parse(str(params["id"]))
    except ValueError as error:
        return {"valid": False, "errors": [str(error)]}
    return {"valid": True, "errors": []}


VERBS: dict[str, Callable[[Object], Object]] = {
    "render": _render,
    "spiffe-parse": _spiffe_parse,
}


def _scenario(value: Any) -> Object:
    """In place, or the path of a file."""
    document = _loaded(value)
    if not isinstance(document, dict):
        raise ValueError("scenario: is not an object")
    return document


def _loaded(value: Any) -> Any:
    import yaml

    if isinstance(value, str):
        return yaml.load(Path(value).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return value
