"""Discovery: what the server says that it has. Built from the kinds, and tagged so that clients may cache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.apiserver.kinds import VERBS, Kind, Kinds

Json = dict[str, Any]

_SUBRESOURCE_KINDS = {
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ["create"]),
    "scale": ("autoscaling", "v1", "Scale", ["get", "patch", "update"]),
    "eviction": ("policy", "v1", "Eviction", ["create"]),
}


def core_versions() -> Json:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(kinds: Kinds) -> Json:
    """`/apis`."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name, kinds) for name in _groups(kinds)]}


def group(name: str, kinds: Kinds) -> Json | None:
    """`/apis/GROUP`; None for one that is not served."""
    if name not in _groups(kinds):
        return None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(name, kinds)


def resources(group_name: str, version: str, kinds: Kinds) -> Json | None:
    """`/apis/GROUP/VERSION` and `/api/v1`: every resource and subresource."""
    found = [kind for kind in _everything(kinds) if (kind.group, kind.version) == (group_name, version)]
    if not found:
        return None
    rows: list[Json] = []
    for kind in found:
        rows.append(_resource(kind, kinds))
        rows += [_subresource(kind, name) for name in kind.subresources]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].group_version,
        "resources": rows,
    }


def aggregated(kinds: Kinds, *, core: bool, version: str) -> Json:
    """APIGroupDiscoveryList: all of the above in one answer."""
    names = [""] if core else _groups(kinds)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [_discovered(name, kinds) for name in names],
    }


def version_document() -> Json:
    """`/version`: the API level that the server is compatible with."""
    return {
        "major": "1",
        "minor": "35",
        "gitVersion": "v1.35.0+isthmus",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-01-01T00:00:00Z",
        "goVersion": "python",
        "compiler": "cpython",
        "platform": "linux/amd64",
    }


def _everything(kinds: Kinds) -> list[Kind]:
    return [*kinds.all(), *kinds.virtual()]


def _groups(kinds: Kinds) -> list[str]:
    return sorted({kind.group for kind in _everything(kinds) if kind.group})


def _versions(name: str, kinds: Iterable[Kind]) -> list[str]:
    """Stable versions first, as clients prefer them."""
    versions = {kind.version for kind in kinds if kind.group == name}
    return sorted(versions, key=lambda version: ("alpha" in version, "beta" in version, version))


def _group(name: str, kinds: Kinds) -> Json:
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in _versions(name, _everything(kinds))]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resource(kind: Kind, kinds: Kinds) -> Json:
    row: Json = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": ["create"] if kind in list(kinds.virtual()) else list(VERBS),
    }
    if kind.short_names:
        row["shortNames"] = list(kind.short_names)
    if kind.categories:
        row["categories"] = list(kind.categories)
    return row


def _subresource(kind: Kind, name: str) -> Json:
    row: Json = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": ["get", "patch", "update"] if name != "log" else ["get"],
    }
    if name in _SUBRESOURCE_KINDS:
        group_name, version, kind_name, verbs = _SUBRESOURCE_KINDS[name]
        row |= {"group": group_name, "version": version, "kind": kind_name, "verbs": verbs}
    return row


def _discovered(name: str, kinds: Kinds) -> Json:
    return {
        "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
        "versions": [
            {
                "version": version,
                "freshness": "Current",
                "resources": [
                    _discovered_resource(kind, kinds)
                    for kind in _everything(kinds)
                    if (kind.group, kind.version) == (name, version)
                ],
            }
            for version in _versions(name, _everything(kinds))
        ],
    }


def _discovered_resource(kind: Kind, kinds: Kinds) -> Json:
    row: Json = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.name},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": ["create"] if kind in list(kinds.virtual()) else list(VERBS),
    }
    if kind.short_names:
        row["shortNames"] = list(kind.short_names)
    if kind.categories:
        row["categories"] = list(kind.categories)
    if kind.subresources:
        row["subresources"] = [_discovered_subresource(kind, name) for name in kind.subresources]
    return row


def _discovered_subresource(kind: Kind, name: str) -> Json:
    row = _subresource(kind, name)
    response = {"group": row.get("group", kind.group), "version": row.get("version", kind.version), "kind": row["kind"]}
    return {"subresource": name, "responseKind": response, "verbs": row["verbs"]}
