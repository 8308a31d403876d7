"""A mesh's settings, and Pods as workload controllers make them."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.injection.settings import InjectionSettings


@pytest.fixture
def settings() -> InjectionSettings:
    return InjectionSettings(
        cluster="east",
        network="n1",
        mesh="mesh1",
        trust_domain="cluster.local",
        system_namespace="istio-system",
        discovery_address="istiod.istio-system.svc:15012",
        image="isthmus/proxy:1",
    )


@pytest.fixture
def pod() -> Any:
    """Makes a Pod of the Deployment `web`."""

    def make(*, annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, **spec: Any) -> Any:
        container = {"name": "app", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}
        return {
            "metadata": {
                "generateName": "web-5d4f-",
                "labels": {"app": "web", "pod-template-hash": "5d4f", **(labels or {})},
                "annotations": annotations or {},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "controller": True}
                ],
            },
            "spec": {"containers": [container], **spec},
        }

    return make


@pytest.fixture
def variables() -> Any:
    """The variables of a Pod's proxy that are told as they are."""

    def of(pod: Any) -> dict[str, str]:
        everything = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        proxy = next(each for each in everything if each["name"] == "istio-proxy")
        return {each["name"]: each["value"] for each in proxy["env"] if "value" in each}

    return of
