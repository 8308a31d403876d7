"""The objects of a run, written through the API servers as any client would write them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from pathlib import Path

from bench import workloads
from bench.workloads import SYSTEM, Object, Workload
from isthmus.api.crds import all_crds
from isthmus.api.registry import KINDS
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, NotFound
from isthmus.kubernetes.resources import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    ResourcePath,
)

_CONCURRENT = 32
_CRDS = ResourcePath(group="apiextensions.k8s.io", version="v1", plural="customresourcedefinitions", namespaced=False)
_ROOTS_SECONDS = 60.0
_BUILT_IN = {
    "Namespace": NAMESPACES,
    "Node": NODES,
    "ServiceAccount": SERVICE_ACCOUNTS,
    "Service": SERVICES,
    "EndpointSlice": ENDPOINT_SLICES,
    "Pod": PODS,
    "Secret": SECRETS,
    "CustomResourceDefinition": _CRDS,
}


def path_of(kind: str) -> ResourcePath:
    """Where objects of the kind are."""
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    found = KINDS[kind]
    return ResourcePath(group=found.group, version=found.version, plural=found.plural, namespaced=found.namespaced)


async def create(client: ApiClient, objects: Iterable[Object]) -> int:
    """Creates them, many at once; what is there already is left as it is. How many."""
    limit = asyncio.Semaphore(_CONCURRENT)
    count = 0

    async def one(body: Object) -> None:
        resource = path_of(body["kind"])
        name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
        async with limit:
            try:
                await client.create(resource, body, namespace)
            except AlreadyExists:
                return
            if body["kind"] in ("Service", "Pod") and "status" in body:
                await client.patch(resource, name, {"status": body["status"]}, namespace, subresource="status")

    async with asyncio.TaskGroup() as tasks:
        for body in objects:
            count += 1
            tasks.create_task(one(body), name=f"create {body['kind']}")
            if count % (_CONCURRENT * 4) == 0:
                await asyncio.sleep(0)
    return count


async def write_cluster(client: ApiClient, workload: Workload, cluster: int, *, with_crds: bool) -> int:
    """All that the workload has in one cluster."""
    count = 0
    if with_crds:
        count += await create(client, all_crds())
    spaces = list(workloads.namespaces(workload, cluster))
    count += await create(client, (body for body in spaces if body["kind"] == "Namespace"))
    count += await create(client, (body for body in spaces if body["kind"] != "Namespace"))
    return count + await create(client, workloads.objects(workload, cluster))


async def remove(client: ApiClient, workload: Workload) -> None:
    """The workload's namespaces, with everything in them."""
    for number in range(workload.namespaces):
        try:
            await client.delete(NAMESPACES, workloads.namespace_of(number))
        except NotFound:
            continue


def remote_secret(cluster: str, kubeconfig: Path) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"istio-remote-secret-{cluster}",
            "namespace": SYSTEM,
            "labels": {"istio/multiCluster": "true"},
        },
        "data": {cluster: base64.b64encode(kubeconfig.read_bytes()).decode()},
    }


async def authority_of(client: ApiClient) -> dict[str, str]:
    """The control plane's authority, from its Secret: certificate, key, chain and roots, PEM. Waits until there is one."""
    async with asyncio.timeout(_ROOTS_SECONDS):
        while True:
            for name in ("cacerts", "istio-ca-secret"):
                try:
                    secret = await client.get(SECRETS, name, SYSTEM)
                except NotFound:
                    continue
                return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
            await asyncio.sleep(0.2)


async def roots_of(client: ApiClient) -> str:
    """What the control plane's serving certificate is checked against."""
    async with asyncio.timeout(_ROOTS_SECONDS):
        while True:
            try:
                return str((await client.get(CONFIG_MAPS, "istio-ca-root-cert", SYSTEM))["data"]["root-cert.pem"])
            except NotFound:
                await asyncio.sleep(0.2)
