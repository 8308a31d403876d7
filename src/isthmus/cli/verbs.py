"""The questions that `isthmus batch` answers. Each is one function from parameters to an answer; none keeps anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.cli.trust_verbs import TRUST_VERBS

Object = dict[str, Any]


def _render(params: Object) -> Object:
    from isthmus.assurance.rendering import render
    from isthmus.assurance.scenario import scenario_of

    return render(scenario_of(_scenario(params["scenario"])), params["proxy"])


def _dns_query(params: Object) -> Object:
    from isthmus.dns.query import query

    return query(_loaded(params["table"]), str(params["name"]), str(params.get("type", "A")))


def _validate(params: Object) -> Object:
    from isthmus.assurance.validation import validate

    return validate(params["object"])


def _validate_mesh(params: Object) -> Object:
    from isthmus.assurance.validation import validate_mesh

    return validate_mesh(params.get("meshConfig"), params.get("meshNetworks"))


VERBS: dict[str, Callable[[Object], Object]] = {
    "dns-query": _dns_query,
    "render": _render,
    "validate": _validate,
    "validate-mesh": _validate_mesh,
    **TRUST_VERBS,
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
