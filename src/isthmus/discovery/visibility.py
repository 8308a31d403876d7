"""Which services a proxy sees, and which hosts a network gateway passes through.

Every service is visible everywhere until a rule narrows it; an ExternalName or a UDP port is never an upstream.
"""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.model.names import Hostname, Namespace
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import Exposure, Snapshot
from isthmus.model.views import ProxyKind, Scope


def visible_ports(snapshot: Snapshot) -> Iterator[tuple[Service, ServicePort]]:
    """Every service port that can be an upstream, in the order of services and port numbers."""
    for _, service in sorted(snapshot.services.items()):
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                yield service, port


def exposures_for(scope: Scope, snapshot: Snapshot) -> list[Exposure]:
    """The exposures whose selector chooses this gateway. An empty selector chooses every gateway, as in Istio."""
    if scope.kind is not ProxyKind.ROUTER:
        return []
    labels = dict(scope.labels)
    return [
        exposure for exposure in snapshot.exposures if all(labels.get(key) == value for key, value in exposure.selector)
    ]


def exposes(exposure: Exposure, service: Service) -> bool:
    """Whether one of the hosts, as written, names the service: `*.local`, `host`, `namespace/host`, `./host`, `*/host`."""
    return any(_host_matches(host, exposure.namespace, service) for host in exposure.hosts)


def _host_matches(written: str, own: Namespace, service: Service) -> bool:
    namespace, slash, host = written.rpartition("/")
    if slash and namespace not in ("*", service.namespace) and not (namespace == "." and service.namespace == own):
        return False
    return _covers(host, service.hostname)


def _covers(pattern: str, hostname: Hostname) -> bool:
    return pattern in ("*", hostname) or (pattern.startswith("*.") and hostname.endswith(pattern[1:]))
