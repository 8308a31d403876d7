"""ConfigMaps as tables of texts, of which several write a key each."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import NotFound
from isthmus.kubernetes.resources import CONFIG_MAPS


async def data_of(client: ApiClient, name: str, namespace: str) -> dict[str, str]:
    """Empty, if there is no such ConfigMap. Raises KubernetesError."""
    try:
        return dict((await client.get(CONFIG_MAPS, name, namespace)).get("data") or {})
    except NotFound:
        return {}


async def put_data(client: ApiClient, name: str, namespace: str, data: Mapping[str, str | None]) -> None:
    """These keys, whatever else the ConfigMap has; None takes one out. It is made, if there is something to say. Raises KubernetesError."""
    try:
        await client.patch(CONFIG_MAPS, name, {"data": dict(data)}, namespace)
    except NotFound:
        said = {key: value for key, value in data.items() if value is not None}
        if said:
            metadata = {"name": name, "namespace": namespace}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": said}
            await client.create(CONFIG_MAPS, body, namespace)
