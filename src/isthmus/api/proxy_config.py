"""Istio's networking.istio.io/ProxyConfig, as far as the mesh reads it."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, Wire
from isthmus.api.security import Selector


class ProxyConfigSpec(Wire, frozen=True):
    selector: Selector | None = None
    concurrency: int | None = None
    environment_variables: dict[str, str] = {}


class ProxyConfig(KubernetesObject, frozen=True):
    spec: ProxyConfigSpec = msgspec.field(default_factory=ProxyConfigSpec)
