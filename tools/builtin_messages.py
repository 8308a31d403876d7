"""Writes src/isthmus/apiserver/builtin_messages.json: numbers, names and types of the fields of built-in kinds, as protobuf bodies have them.

They are facts of the Kubernetes API, read from the tags in the types of k8s.io/api (of the version that tools/real_kubernetes builds; needs Go). Run
it when kinds are added, or with `--check FOLDER` to hold the decoder against the encoded samples that k8s.io/api has in its `testdata`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from isthmus.apiserver import protobuf
from isthmus.apiserver.kinds import BUILT_IN, VIRTUAL

_ROOT = Path(__file__).parent.parent
_TARGET = _ROOT / "src/isthmus/apiserver/builtin_messages.json"
_PROGRAMS = _ROOT / "tools/real_kubernetes/programs"
_BESIDE = (
    ("authentication.k8s.io/v1", "TokenRequest"),
    ("autoscaling/v1", "Scale"),
    ("policy/v1", "Eviction"),
    ("meta.k8s.io/v1", "DeleteOptions"),
)
"""What is sent to subresources, and how deletions are told."""
_META = "k8s.io/apimachinery/pkg/apis/meta/v1"
_EXTENSIONS = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
_PACKAGES = {
    "": "k8s.io/api/core",
    "meta.k8s.io": _META.rpartition("/")[0],
    "apiextensions.k8s.io": _EXTENSIONS.rpartition("/")[0],
}
_PLAIN = {
    "string": "string",
    "bool": "boolean",
    "int": "integer",
    "int32": "integer",
    "int64": "integer",
    "float64": "number",
    "[]byte": "bytes",
    "k8s.io/apimachinery/pkg/types.UID": "string",
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "quantity",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "int-or-string",
    f"{_META}.Time": "time",
    f"{_META}.MicroTime": "micro-time",
    f"{_META}.FieldsV1": "json",
    f"{_EXTENSIONS}.JSON": "json",
    f"{_EXTENSIONS}.JSONSchemaPropsOrBool": "schema-or-boolean",
    f"{_EXTENSIONS}.JSONSchemaPropsOrArray": "schema-or-list",
    f"{_EXTENSIONS}.JSONSchemaPropsOrStringArray": "schema-or-strings",
}
_IMPORT = re.compile(r'^\s*(?:import\s+)?(?:(\w+)\s+)?"([\w./-]+)"\s*$', re.MULTILINE)
_TYPE = re.compile(r"^type (\w+) (struct \{\n(?:.*\n)*?\}|[\w.\[\]*]+)", re.MULTILINE)
_FIELD = re.compile(r'^\s+(?:\w+\s+)?(\S+)\s+`json:"([^",]*)((?:,\w+)*)"[^`]*protobuf:"\w+,(\d+),', re.MULTILINE)
_NUMBERED = re.compile(r'^\s+(?!//)\w.*protobuf:"\w+,\d', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """What Go types are called in it: their definitions, and what its files import."""

    types: dict[str, str]
    imports: dict[str, str]


@cache
def _package(path: str) -> Package:
    module = "/".join(path.split("/")[:2])
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    folder = subprocess.run(command, cwd=_PROGRAMS, check=True, capture_output=True, text=True).stdout.strip()
    types: dict[str, str] = {}
    imports: dict[str, str] = {}
    for file in sorted(Path(folder, *path.split("/")[2:]).glob("*types*.go")):
        text = file.read_text()
        types.update(_TYPE.findall(text))
        imports |= {name or target.rpartition("/")[2]: target for name, target in _IMPORT.findall(text)}
    return Package(types, imports)


def _fields(path: str, body: str, messages: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    found = _FIELD.findall(body)
    assert len(found) == len(_NUMBERED.findall(body)), body
    for type_, name, options, number in found:
        is_pointer = type_.startswith("*")
        how = _how(path, type_.lstrip("*"), messages)
        stays = is_pointer or ("omitempty" not in options and name)
        yield number, [name, f"{how}!" if stays else how]


def _how(path: str, type_: str, messages: dict[str, Any]) -> str:
    """The type's name in the tables; what is a message is put into them."""
    if type_ in _PLAIN:
        return _PLAIN[type_]
    if type_.startswith("[]"):
        return f"[{_how(path, type_[2:].lstrip('*'), messages)}]"
    if type_.startswith("map["):
        return f"{{{_how(path, type_.partition(']')[2], messages)}}}"
    qualifier, _, plain = type_.rpartition(".")
    where = _package(path).imports[qualifier] if qualifier else path
    name = f"{where}.{plain}"
    if name in _PLAIN:
        return _PLAIN[name]
    definition = _package(where).types[plain]
    if not definition.startswith("struct"):
        # A list with a name is, inside other things, a message of its own.
        return "strings" if definition == "[]string" else _how(where, definition, messages)
    if name not in messages:
        messages[name] = {}
        messages[name].update(_fields(where, definition, messages))
    return name


def _short(name: str) -> str:
    """`core/v1.Pod`."""
    return "/".join(name.split("/")[-2:])


def _write() -> None:
    messages: dict[str, Any] = {}
    kinds = {}
    asked = [*((kind.group_version, kind.name) for kind in (*BUILT_IN, *VIRTUAL)), *_BESIDE]
    for group_version, name in asked:
        group, _, version = group_version.rpartition("/")
        path = f"{_PACKAGES.get(group) or 'k8s.io/api/' + group.partition('.')[0]}/{version}"
        kinds[f"{group_version} {name}"] = _short(_how(path, name, messages))
    shown = {
        _short(name): {number: [field, re.sub(r"[\w./-]+/[\w.]+", lambda found: _short(found[0]), how)] for number, (field, how) in fields.items()}
        for name, fields in messages.items()
    }  # fmt: skip
    names = [f" {json.dumps(key)}: {json.dumps(name)}" for key, name in sorted(kinds.items())]
    lines = [f" {json.dumps(name)}: {json.dumps(fields)}" for name, fields in sorted(shown.items())]
    _TARGET.write_text('{"kinds": {\n' + ",\n".join(names) + '\n},\n"messages": {\n' + ",\n".join(lines) + "\n}}\n")


def _differing(folder: Path) -> list[str]:
    """Samples that are other than what they say in JSON."""
    wrong = []
    for group_version, name in ((kind.group_version, kind.name) for kind in (*BUILT_IN, *VIRTUAL)):
        group, _, version = group_version.rpartition("/")
        sample = folder / f"{group or 'core'}.{version}.{name}"
        if not sample.with_name(f"{sample.name}.pb").exists():
            print(f"{sample.name}: no sample", file=sys.stderr)
            continue
        told = json.loads(sample.with_name(f"{sample.name}.json").read_bytes())
        if protobuf.decode(sample.with_name(f"{sample.name}.pb").read_bytes()) != told:
            wrong.append(sample.name)
    return wrong


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    folder: Path | None = parser.parse_args().check
    if folder is None:
        _write()
        return 0
    wrong = _differing(folder)
    print("\n".join(wrong) or "every sample is decoded to what it says in JSON")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
