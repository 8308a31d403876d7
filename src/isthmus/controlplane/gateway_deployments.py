"""Gateways that somebody has to run: for each Gateway of a class of ours that names no Service of its own, a Deployment, a Service, an account.

The Pods are filled in by injection (`inject.istio.io/templates: gateway`), as with Istio's own gateways. What is made belongs to the Gateway and
goes with it. Fields that people set beside ours stay theirs (server-side apply).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog

from isthmus.api import gateway_api as api
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.world import World
from isthmus.ingest import labels
from isthmus.ingest.gateway_api.gateways import CONTROLLER, deployed_name, is_manual
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import DEPLOYMENTS, SERVICE_ACCOUNTS, SERVICES, ResourcePath
from isthmus.kubernetes.watch import plain
from isthmus.model.selectors import GATEWAY_NAME

Object = dict[str, Any]

MANAGED = "gateway.networking.k8s.io/managed"
_CLASS_NAME = "gateway.networking.k8s.io/gateway-class-name"
_SERVICE_TYPE = "networking.istio.io/service-type"
_MANAGER = "isthmus-gateways"
_READINESS_PORT = 15021
_RETRY_SECONDS = 1.0

log = structlog.get_logger()


def wanted_for(
    gateway: api.KubernetesGateway, ports: Iterable[tuple[str, int]]
) -> Iterator[tuple[ResourcePath, Object]]:
    """What a Gateway needs, in the order in which it is made. `ports` are its listeners', by name."""
    name, namespace = deployed_name(gateway), gateway.metadata.namespace
    infrastructure = gateway.spec.infrastructure
    network = gateway.metadata.labels.get(labels.NETWORK, "")
    own = {
        **infrastructure.labels,
        GATEWAY_NAME: gateway.metadata.name,
        _CLASS_NAME: gateway.spec.gateway_class_name,
        **({labels.NETWORK: network} if network else {}),
    }
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {**own, MANAGED: CONTROLLER.replace("/", "-")},
        "annotations": dict(infrastructure.annotations),
        "ownerReferences": [
            {
                "apiVersion": f"{api.GROUP}/v1",
                "kind": "Gateway",
                "name": gateway.metadata.name,
                "uid": gateway.metadata.uid,
            }
        ],
    }
    yield SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    yield DEPLOYMENTS, _deployment(metadata, own, infrastructure.annotations, network)
    yield SERVICES, _service(gateway, ports, metadata)


def _deployment(metadata: Object, own: Object, annotations: Mapping[str, str], network: str) -> Object:
    view = [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": network}] if network else []
    container = {
        "name": "istio-proxy",
        "image": "auto",
        "env": view,
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": _READINESS_PORT}, "periodSeconds": 2},
    }
    template = {
        "metadata": {
            "labels": {**own, "sidecar.istio.io/inject": "true"},
            "annotations": {**annotations, "inject.istio.io/templates": "gateway"},
        },
        "spec": {"serviceAccountName": metadata["name"], "containers": [container]},
    }
    spec = {"selector": {"matchLabels": {GATEWAY_NAME: own[GATEWAY_NAME]}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _service(gateway: api.KubernetesGateway, ports: Iterable[tuple[str, int]], metadata: Object) -> Object:
    spec: Object = {
        "type": gateway.metadata.annotations.get(_SERVICE_TYPE, "LoadBalancer"),
        "selector": {GATEWAY_NAME: gateway.metadata.name},
        "ports": [
            {"name": "status-port", "port": _READINESS_PORT, "protocol": "TCP", "appProtocol": "http"},
            *({"name": name, "port": port, "protocol": "TCP"} for name, port in _named(ports)),
        ],
    }
    asked = next((each.value for each in gateway.spec.addresses if each.type == "IPAddress"), "")
    if asked:
        spec["loadBalancerIP"] = asked
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _named(ports: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """As a Service takes names: short, and each one's own."""
    taken = {"status-port"}
    for name, port in ports:
        short = name.replace(".", "-")[:15].rstrip("-")
        if short in taken:
            short = f"{name.replace('.', '-')[:9].rstrip('-')}-{port}"
        taken.add(short)
        yield short, port


class GatewayDeployer:
    """`run` while leading. What is there as it was applied is left alone; what somebody has taken away comes back."""

    def __init__(self, client: ApiClient, world: World, delivery: Delivery) -> None:
        self._client = client
        self._world = world
        self._delivery = delivery
        self._applied: dict[tuple[str, str, str], Object] = {}
        self._due = asyncio.Event()
        managed = {"labelSelector": MANAGED}
        self._watched: dict[ResourcePath, Reflector[Object]] = {
            resource: Reflector(client, resource, plain, self._changed, selector=managed, optional=True)
            for resource in (SERVICE_ACCOUNTS, DEPLOYMENTS, SERVICES)
        }

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._watched.values():
                tasks.create_task(reflector.run(), name="watch of what was deployed")
            tasks.create_task(self._follow(), name="gateways")
            for reflector in self._watched.values():
                await reflector.synced.wait()
            self._due.set()
            while True:
                await self._due.wait()
                self._due.clear()
                if not await self._deployed():
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._due.set()

    def _changed(self, _: object) -> None:
        self._due.set()

    async def _follow(self) -> None:
        """Gateways are in the snapshot's world; each round of delivery may have brought one."""
        while True:
            await self._delivery.after_round()
            self._due.set()

    async def _deployed(self) -> bool:
        imported = self._world.clusters.get(self._world.config_cluster)
        snapshot = self._delivery.tables.snapshot
        if imported is None or snapshot is None:
            return True
        ours = {(each.namespace, each.name): each for each in snapshot.attachments.gateways if each.is_deployed}
        found = imported.objects.get("KubernetesGateway", {})
        done = True
        for name, told in sorted(ours.items()):
            gateway = found.get(name)
            if isinstance(gateway, api.KubernetesGateway) and not is_manual(gateway):
                for resource, body in wanted_for(gateway, told.ports):
                    done = await self._apply(resource, body) and done
        return done

    async def _apply(self, resource: ResourcePath, body: Object) -> bool:
        metadata = body["metadata"]
        key = (resource.plural, metadata["namespace"], metadata["name"])
        is_there = key[1:] in self._watched[resource].values
        if is_there and self._applied.get(key) == body:
            return True
        try:
            await self._client.apply(resource, body, manager=_MANAGER, force=True)
        except KubernetesError as error:
            log.warning("cannot deploy a gateway", kind=body["kind"], name=metadata["name"], error=str(error))
            return False
        self._applied[key] = body
        return True
