"""Origin: the object that a part of a proxy's configuration came from."""

from __future__ import annotations

import re

from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """An object of the config cluster, by kind, namespace (empty if cluster-scoped) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def path(self) -> str:
        """As Istio writes it into the metadata of routes and clusters."""
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", self.kind).lower()
        group, version = "networking.istio.io", "v1alpha3"
        if self.kind.endswith("Route"):
            group, version = "gateway.networking.k8s.io", "v1"
        elif self.kind == "GlobalTrafficPolicy":
            group, version = "admiral.io", "v1alpha1"
        return f"/apis/{group}/{version}/namespaces/{self.namespace}/{kind}/{self.name}"
