"""Istio's Sidecar: what the proxies of some workloads import and let in, as values."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.model.gateways import ServerTls
from isthmus.model.names import Hostname, Namespace, ServiceKey, covers
from isthmus.model.routing import Target
from isthmus.model.security import Labels
from isthmus.model.services import Protocol
from isthmus.model.traffic import ConnectionPool
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True)
class HostChoice:
    """`namespace/host` of an egress listener: `namespace` is a name, `*`, or empty for none; `host` a name, `*.end` or `*`."""

    namespace: str
    host: str
    excluded: bool = False

    def means(self, namespace: Namespace, host: Hostname) -> bool:
        """Whether a host, or a pattern for hosts, of that namespace is chosen (or excluded). `name.namespace` is short for a Service's."""
        return self.namespace in ("*", namespace) and (covers(self.host, host) or host.startswith(f"{self.host}.svc."))


@dataclass(frozen=True, slots=True)
class Place:
    """Where applications find what an egress listener imports, if not at its own addresses: `address` is an IP address or the path of a Unix
    domain socket. `port` 0 is each service's own. `is_bound`: the proxy listens there itself, so nothing needs to be captured.
    """

    address: str
    port: int
    is_bound: bool

    @property
    def is_socket(self) -> bool:
        return self.address.startswith(("/", "@"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """`port` 0 means every port. Without a `place`, connections to a service's own addresses are captured."""

    hosts: tuple[HostChoice, ...]
    port: int = 0
    place: Place | None = None

    def takes(self, namespace: Namespace, host: Hostname) -> bool:
        """Whether a host of that namespace is imported. Exclusions win."""
        meant = [choice for choice in self.hosts if choice.means(namespace, host)]
        return bool(meant) and not any(choice.excluded for choice in meant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """A port of the workload, as the Sidecar has it rather than its services. `forward_to` is where connections are forwarded:
    an address and port of the workload, or the path of a Unix domain socket; None leaves them as they were sent. `is_bound`: the proxy listens
    on the port itself, at `address` or, where that is empty, at the workload's.
    """

    port: int
    name: str
    protocol: Protocol
    forward_to: tuple[str, int] | str | None = None
    tls: ServerTls | None = None
    pool: ConnectionPool | None = None
    address: str = ""
    is_bound: bool = False


ALL_PORTS: frozenset[int] = frozenset()
"""Of a service: no matter which."""

SeenPorts = tuple[tuple[ServiceKey, frozenset[int]], ...]
"""Services with the ports that are seen of them."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What is found at one place."""

    place: Place
    ports: SeenPorts


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the proxies of a scope have applications find services. `captured` None: all of them at their own addresses."""

    placed: tuple[Placed, ...] = ()
    captured: SeenPorts | None = None


def includes(ports: Mapping[ServiceKey, frozenset[int]], service: ServiceKey, port: int) -> bool:
    """Whether the service's port is among them."""
    seen = ports.get(service)
    return seen is not None and (not seen or port in seen)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What becomes of connections and requests to nobody that is seen: with `registry_only` they end; else they go to the upstream `by_way_of`
    or, where that is empty, to where they were sent.
    """

    registry_only: bool = False
    by_way_of: str = ""


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
    egress_proxy: Target | None = None
    """Where connections go that are for nobody who is seen."""
    inbound_pool: ConnectionPool | None = None
    """Limits of what is let in, on ports that have none of their own."""
