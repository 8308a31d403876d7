"""The inventory: what an installation consists of, kept in a ConfigMap beside it, so that exactly that can be taken away again.

It is written before anything is applied, and names what was there before as well as what will be: whatever moment a run breaks off at, nothing
that it made is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.installation.manifests import INSTALLATION, MANAGER, Installed
from isthmus.kubernetes.reader_access import MANAGED_BY

Object = dict[str, Any]

_KEY = "objects"
_ADOPTED, _SHARED, _DEFINITION = "adopted", "shared", "definition"


class BadInventory(ValueError):
    """A ConfigMap that is not the inventory that it says it is."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """One object of a cluster."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @staticmethod
    def of(body: Mapping[str, Any]) -> ObjectName:
        metadata = body["metadata"]
        return ObjectName(body["apiVersion"], body["kind"], metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`adopted`: it was there before, and stays. `shared` with other installations; `definition` of a kind."""

    name: ObjectName
    adopted: bool = False
    shared: bool = False
    definition: bool = False

    def line(self) -> str:
        said = {_ADOPTED: self.adopted, _SHARED: self.shared, _DEFINITION: self.definition}
        flags = ",".join(word for word, holds in said.items() if holds)
        parts = (self.name.api_version, self.name.kind, self.name.namespace or "-", self.name.name, flags)
        return " ".join(part for part in parts if part)


def entries_of(found: Iterable[Installed], adopted: Iterable[ObjectName]) -> list[Entry]:
    """In the order of application."""
    kept = set(adopted)
    names = [(ObjectName.of(each.body), each) for each in found]
    return [
        Entry(name=name, adopted=name in kept, shared=each.shared, definition=each.definition) for name, each in names
    ]


def together(first: Iterable[Entry], second: Iterable[Entry]) -> list[Entry]:
    """All of the first, then what only the second has."""
    found = {entry.name: entry for entry in first}
    return [*found.values(), *(entry for entry in second if entry.name not in found)]


def inventory_name(revision: str) -> str:
    return f"isthmus-install-{revision}"


LEFT = "isthmus.io/left"
"""Says of an inventory that its installation is gone, but for definitions and a namespace with whatever is in it."""


def config_map(namespace: str, revision: str, entries: Iterable[Entry], *, left: bool = False) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": inventory_name(revision),
            "namespace": namespace,
            "labels": {
                MANAGED_BY: MANAGER,
                INSTALLATION: f"{namespace}.{revision}",
                **({LEFT: "true"} if left else {}),
            },
        },
        "data": {_KEY: "".join(f"{entry.line()}\n" for entry in entries)},
    }


def read(body: Mapping[str, Any]) -> list[Entry]:
    """Raises BadInventory."""
    found = []
    for line in str((body.get("data") or {}).get(_KEY, "")).splitlines():
        parts = line.split(" ")
        flags = set(parts[4].split(",")) if len(parts) == 5 else set()
        if len(parts) not in (4, 5) or not all(parts) or flags - {_ADOPTED, _SHARED, _DEFINITION}:
            raise BadInventory(f"ConfigMap {body['metadata'].get('name')}: {line[:120]!r} names no object")
        version, kind, namespace, name = parts[:4]
        found.append(
            Entry(
                name=ObjectName(version, kind, "" if namespace == "-" else namespace, name),
                adopted=_ADOPTED in flags,
                shared=_SHARED in flags,
                definition=_DEFINITION in flags,
            )
        )
    return found
