"""Writes src/isthmus/apiserver/builtin_types.json: names and types of the fields of the built-in kinds.

They are facts of the Kubernetes API, read from the models of the `kubernetes` client, which is installed for tests. Run it when kinds are added.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from kubernetes.client import models

from isthmus.apiserver.kinds import BUILT_IN, VIRTUAL

_TARGET = Path(__file__).parent.parent / "src/isthmus/apiserver/builtin_types.json"
_PREFIX = re.compile(
    r"^(Core|Rbac|Authentication|Discovery|Storage|Events|Admissionregistration|Apiextensions|Flowcontrol)?V[12]"
)
_PLAIN = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "datetime": "time",
    "bytes": "string",
    "object": "any",
}
_QUANTITIES = {
    "limits", "requests", "capacity", "allocatable", "overhead", "sizeLimit", "divisor", "allocatedResources", "default",
    "defaultRequest", "hard", "used", "averageValue",
}  # fmt: skip
_INT_OR_STRING = {"targetPort", "maxSurge", "maxUnavailable", "minAvailable"}
_OPEN = {"JSONSchemaProps", "FieldsV1"}
"""Types that contain themselves, or anything."""


def main() -> None:
    """Every type that a built-in kind needs, by name."""
    types: dict[str, dict[str, str]] = {}
    kinds = {}
    for kind in (*BUILT_IN, *VIRTUAL):
        name = _class_of(kind.version, kind.name)
        kinds[f"{kind.group_version} {kind.name}"] = _add(name, types)
    lines = [f" {json.dumps(name)}: {json.dumps(fields)}" for name, fields in sorted(types.items())]
    names = [f" {json.dumps(key)}: {json.dumps(name)}" for key, name in sorted(kinds.items())]
    _TARGET.write_text('{"kinds": {\n' + ",\n".join(names) + '\n},\n"types": {\n' + ",\n".join(lines) + "\n}}\n")


def _class_of(version: str, name: str) -> str:
    plain = f"{version.title()}{name}"
    return next(found for found in (plain, f"Core{plain}") if hasattr(models, found))


def _add(class_name: str, types: dict[str, dict[str, str]]) -> str:
    short = _PREFIX.sub("", class_name)
    if short not in types:
        types[short] = {}
        model = getattr(models, class_name)
        for attribute, type_ in sorted(model.openapi_types.items()):
            field = model.attribute_map[attribute]
            types[short][field] = _type(field, type_, types)
    return short


def _type(field: str, text: str, types: dict[str, dict[str, str]]) -> str:
    """`string`, `[Container]` for a list, `{string}` for a map."""
    for pattern, form in ((r"List\[(.*)\]", "[{}]"), (r"Dict\[str, (.*)\]", "{{{}}}")):
        found = re.fullmatch(pattern, text)
        if found:
            return form.format(_type(field, found[1], types))
    if text in ("str", "object") and field in _QUANTITIES:
        return "quantity"
    if text == "object" and field in _INT_OR_STRING:
        return "int-or-string"
    if text in _PLAIN:
        return _PLAIN[text]
    return "any" if _PREFIX.sub("", text) in _OPEN else _add(text, types)


if __name__ == "__main__":
    main()
