"""Distinct types for distinct names, so that a cluster id never passes for a network id."""

from __future__ import annotations

from typing import NewType

from isthmus.model.values import dataclass

ClusterId = NewType("ClusterId", str)
"""A Kubernetes cluster in the mesh; what remote secrets, agents and node metadata call it."""

NetworkId = NewType("NetworkId", str)
"""Workloads on one network reach each other directly. `NetworkId("")` is an undeclared network."""

MeshId = NewType("MeshId", str)
Namespace = NewType("Namespace", str)

Hostname = NewType("Hostname", str)
"""A service's full name, such as `helloworld.sample.svc.cluster.local`, in lower case."""

UNDECLARED_NETWORK = NetworkId("")


def covers(pattern: str, hostname: str) -> bool:
    """Whether a host as users write it means this one: the name itself, `*.` and its end, or `*` for all."""
    return pattern in ("*", hostname) or (pattern.startswith("*.") and hostname.endswith(pattern[1:]))


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """A service's identity in the mesh: the same host and namespace in two clusters is one service (namespace sameness)."""

    namespace: Namespace
    hostname: Hostname

    def __str__(self) -> str:
        return f"{self.namespace}/{self.hostname}"
