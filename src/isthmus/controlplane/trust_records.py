"""What a control plane remembers about bundles beyond its own life: one ConfigMap in the mesh's namespace, a key for each matter.

Several control planes may write it; each key is written whole. A record that cannot be written costs the memory, not the mesh.
"""

from __future__ import annotations

import asyncio

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.config_maps import data_of, put_data
from isthmus.kubernetes.errors import KubernetesError
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
                return await data_of(self._client, CONFIG_MAP, self._namespace)
            except KubernetesError as error:
                log.warning("records of bundles not read", error=str(error), attempt=attempt)
                await asyncio.sleep(_RETRY_SECONDS)
        return {}

    async def save(self, key: str, value: str | None) -> None:
        """None takes the key out."""
        async with self._saving:
            try:
                await put_data(self._client, CONFIG_MAP, self._namespace, {key: value})
            except KubernetesError as error:
                log.warning("record of bundles not written", key=key, error=str(error))
