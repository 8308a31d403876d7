"""What a control plane remembers about bundles beyond its own life: one ConfigMap in the mesh's namespace, a key for each matter.

Several control planes may write it; each key is written whole. A record that cannot be written costs the memory, not the mesh.
"""

from __future__ import annotations

import asyncio

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError, NotFound
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.model.names import Namespace

CONFIG_MAP = "isthmus-bundles"
_TRIES = 5
_RETRY_SECONDS = 0.5

log = structlog.get_logger()


class TrustRecords:
    """Reads at the start, writes from then on."""

    def __init__(self, client: ApiClient, namespace: Namespace) -> None:
        self._client = client
        self._namespace = namespace
        self._saving = asyncio.Lock()

    async def load(self) -> dict[str, str]:
        """All keys; none if the API server does not answer in time."""
        for attempt in range(_TRIES):
            try:
                found = await self._client.get(CONFIG_MAPS, CONFIG_MAP, self._namespace)
            except NotFound:
                return {}
            except KubernetesError as error:
                log.warning("records of bundles not read", error=str(error), attempt=attempt)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return dict(found.get("data") or {})
        return {}

    async def save(self, key: str, value: str | None) -> None:
        """None takes the key out."""
        async with self._saving:
            try:
                await self._write({"data": {key: value}}, create=value is not None)
            except KubernetesError as error:
                log.warning("record of bundles not written", key=key, error=str(error))

    async def _write(self, body: dict[str, object], *, create: bool) -> None:
        try:
            await self._client.patch(CONFIG_MAPS, CONFIG_MAP, body, self._namespace)
        except NotFound:
            if create:
                metadata = {"name": CONFIG_MAP, "namespace": self._namespace}
                whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **body}
                await self._client.create(CONFIG_MAPS, whole, self._namespace)
