"""Istio's Sidecar: what the proxies of some workloads import and let in, as values."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.gateways import ServerTls
from isthmus.model.names import Hostname, Namespace, covers
from isthmus.model.security import Labels
from isthmus.model.services import Protocol


@dataclass(frozen=True, slots=True)
class HostChoice:
    """`namespace/host` of an egress listener: `namespace` is a name, `*`, or empty for none; `host` a name, `*.end` or `*`."""

    namespace: str
    host: str
    excluded: bool = False

    def means(self, namespace: Namespace, host: Hostname) -> bool:
        """Whether a host, or a pattern for hosts, of that namespace is chosen (or excluded). `name.namespace` is short for a Service's."""
        return self.namespace in ("*", namespace) and (covers(self.host, host) or host.startswith(f"{self.host}.svc."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """`port` 0 means every port."""

    hosts: tuple[HostChoice, ...]
    port: int = 0

    def takes(self, namespace: Namespace, host: Hostname) -> bool:
        """Whether a host of that namespace is imported. Exclusions win."""
        meant = [choice for choice in self.hosts if choice.means(namespace, host)]
        return bool(meant) and not any(choice.excluded for choice in meant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """A port of the workload, as the Sidecar has it rather than its services. `forward_to` is where connections are forwarded:
    an address and port of the workload, or the path of a Unix domain socket; None leaves them as they were sent.
    """

    port: int
    name: str
    protocol: Protocol
    forward_to: tuple[str, int] | str | None = None
    tls: ServerTls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """`egress` or `ingress` None is as without a Sidecar. `registry_only` None leaves it to the mesh."""

    created: str
    namespace: Namespace
    name: str
    selector: Labels = ()
    egress: tuple[Egress, ...] | None = None
    ingress: tuple[Ingress, ...] | None = None
    registry_only: bool | None = None
