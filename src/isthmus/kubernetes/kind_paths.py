"""Where an API server has a kind that the mesh reads."""

from __future__ import annotations

from dataclasses import replace

from isthmus.api.registry import Kind
from isthmus.kubernetes.resources import ResourcePath


def path_of(kind: Kind) -> ResourcePath:
    return ResourcePath(group=kind.group, version=kind.version, plural=kind.plural, namespaced=kind.namespaced)


def paths_of(kind: Kind) -> list[ResourcePath]:
    """Where a server may have the kind, the newest version first."""
    return [replace(path_of(kind), version=version) for version in kind.newest_first or (kind.version,)]
