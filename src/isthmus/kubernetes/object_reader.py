"""Reads everything that matters to a mesh out of one API server, once. What it may not read is named, not guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from isthmus.api.registry import KINDS
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import Forbidden, NotFound, Unauthorized
from isthmus.kubernetes.kind_paths import paths_of
from isthmus.kubernetes.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    MUTATING_WEBHOOKS,
    SECRETS,
    VALIDATING_WEBHOOKS,
    ResourcePath,
)

_PAGE = "500"
_CRDS = ResourcePath(group="apiextensions.k8s.io", version="v1", plural="customresourcedefinitions", namespaced=False)


@dataclass(frozen=True, slots=True)
class ReadObjects:
    """`unread` are kinds that this caller may not list."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def _wanted() -> list[tuple[str, list[ResourcePath]]]:
    """Kinds, each with where a server may have it, the newest version first."""
    known = [
        (kind.name, paths_of(kind)) for kind in KINDS.values() if kind.name not in ("ConfigMap", "Secret", "Deployment")
    ]
    return [
        *known, ("ConfigMap", [CONFIG_MAPS]), ("Secret", [SECRETS]), ("Deployment", [DEPLOYMENTS]),
        ("MutatingWebhookConfiguration", [MUTATING_WEBHOOKS]),
        ("ValidatingWebhookConfiguration", [VALIDATING_WEBHOOKS]), ("CustomResourceDefinition", [_CRDS]),
    ]  # fmt: skip


async def read_objects(client: ApiClient) -> ReadObjects:
    """Every object of the kinds that analysis looks at. Kinds that the server does not have are passed over. Raises KubernetesError."""
    found = ReadObjects()
    for kind, resources in _wanted():
        try:
            found.objects.extend(await _newest(client, kind, resources))
        except (Forbidden, Unauthorized):
            found.unread.append(kind)
    return found


async def _newest(client: ApiClient, kind: str, resources: list[ResourcePath]) -> list[dict[str, Any]]:
    """The objects of the first of the versions that the server has; none if it has none."""
    for resource in resources:
        try:
            items = await _pages(client, resource)
        except NotFound:
            continue
        return [{"apiVersion": resource.api_version, "kind": kind} | item for item in items]
    return []


async def _pages(client: ApiClient, resource: ResourcePath) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    token = ""
    while True:
        parameters = {"limit": _PAGE} | ({"continue": token} if token else {})
        page = await client.list_objects(resource, **parameters)
        items += page.get("items") or []
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return items
