"""What an API server of this machine asks the control planes: whether what somebody writes is right, and within its namespace's quota.

Asked from when the topology's own objects are there. These stay what they are, with findings, whoever of the two is up first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from isthmus.injection.selection import DEFAULT_REVISION, REVISION_LABEL
from isthmus.injection.webhook_configuration import WEBHOOK_PORT, Called, validator
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.resources import VALIDATING_WEBHOOKS
from isthmus.localruntime.applying import answered
from isthmus.localruntime.manifests import SYSTEM, control_plane_name
from isthmus.localruntime.plan import ClusterPlan, Plan, Role
from isthmus.model.selectors import Operator, Requirement

Object = dict[str, Any]

_KIND = "ValidatingWebhookConfiguration"
_ELSEWHERE = "istiod-remote"
"""Istio's name for a control plane that is not here; its certificate has it."""
_LOOK_SECONDS = 0.05


def webhooks(plan: Plan, cluster: ClusterPlan) -> list[Object]:
    """Of a cluster that a control plane takes its configuration from: one configuration for each of its revisions."""
    ruling = next((each for each in plan.clusters if each.config_cluster == cluster.id), None)
    if ruling is None:
        return []
    found: list[Object] = []
    for revision in ruling.revisions:
        service = control_plane_name(revision)
        if ruling.role is Role.EXTERNAL:
            service = _ELSEWHERE if revision == DEFAULT_REVISION else service
            found += _leading_to(service, ruling.revision_balanced(revision))
        called = Called(service=service, namespace=SYSTEM)
        found.append(validator(revision, called, labels={}, failure_policy="Ignore", objects=_judged(ruling, revision)))
    return found


def _judged(ruling: ClusterPlan, revision: str) -> list[Requirement]:
    """What names the revision, by its own name or by a tag's. The first one judges whatever is nobody else's."""
    is_first = revision == ruling.revisions[0]
    others = ruling.revisions[1:] if is_first else [revision]
    names = [*others, *(tag for tag, leads_to in ruling.tags.items() if leads_to in others)]
    operator = Operator.NOT_IN if is_first else Operator.IN
    return [Requirement(REVISION_LABEL, operator, tuple(names))] if names else []


def _leading_to(service: str, address: str) -> Iterator[Object]:
    """For the API server alone: to proxies it is no service."""
    metadata = {"name": service, "namespace": SYSTEM, "annotations": {"networking.istio.io/exportTo": "~"}}
    port = {"name": "https-webhook", "port": 443}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port | {"targetPort": WEBHOOK_PORT}]}}  # fmt: skip
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [port],
    }


async def until_trusted(client: ApiClient, objects: Sequence[Object]) -> None:
    """The control planes have written their authority into each of the configurations: from now on an answer counts."""
    for obj in objects:
        if obj["kind"] == _KIND:
            name = obj["metadata"]["name"]
            while not await answered(partial(_is_trusted, client, name)):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(_LOOK_SECONDS)


async def _is_trusted(client: ApiClient, name: str) -> bool:
    found = await client.get(VALIDATING_WEBHOOKS, name)
    return all(webhook["clientConfig"].get("caBundle") for webhook in found["webhooks"])
