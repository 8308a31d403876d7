"""Puts objects into a cluster that comes up. Its API server may be slow to answer, on a machine where everything starts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, ApiUnavailable, KubernetesError
from isthmus.kubernetes.resources import ResourcePath

Object = dict[str, Any]
T = TypeVar("T")

_AGAIN_SECONDS = 0.3

log = structlog.get_logger()


class NotApplied(Exception):
    """The API server refuses an object."""


async def apply_objects(client: ApiClient, objects: Iterable[Object]) -> None:
    """In order; what is there already is left as it is. Raises NotApplied."""
    known: dict[tuple[str, str], ResourcePath] = {}

    async def apply(obj: Object) -> None:
        api_version, kind, metadata = obj["apiVersion"], obj["kind"], obj["metadata"]
        if (api_version, kind) not in known:
            known[api_version, kind] = await client.resource_of(api_version, kind)
        resource = known[api_version, kind]
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        await client.create(resource, obj, namespace)

    for obj in objects:
        try:
            await answered(partial(apply, obj))
        except AlreadyExists:
            continue
        except KubernetesError as error:
            raise NotApplied(f"{obj['kind']} {obj['metadata']['name']}: {error}") from None


async def answered(question: Callable[[], Awaitable[T]]) -> T:
    """The answer of an API server of this machine, however long it takes: one that is silent is busy, or is being started again. Those who
    wait for the mesh have limits of their own."""
    while True:
        try:
            return await question()
        except ApiUnavailable as error:
            log.warning("asked again", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
