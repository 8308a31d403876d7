"""What all Kubernetes objects have in common."""

from __future__ import annotations

from typing import Annotated

import msgspec

PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of every wire shape: camelCase names; fields that Isthmus does not read are skipped when decoding."""


class OwnerReference(Wire, frozen=True):
    kind: str = ""
    name: str = ""
    controller: bool = False


class ObjectMeta(Wire, frozen=True):
    """The part of `metadata` that the mesh reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []


class KubernetesObject(Wire, frozen=True):
    """Any object: enough to name it."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
