"""Which services a proxy sees, and which hosts a network gateway passes through.

Every service is visible everywhere until a rule narrows it; an ExternalName or a UDP port is never an upstream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.model.names import Namespace, covers
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import Exposure, Snapshot
from isthmus.model.views import ProxyKind, Scope


def is_exported(export_to: Sequence[str], own: Namespace, namespace: Namespace) -> bool:
    """Whether an object of the namespace `own` is there for another namespace. Silence exports to all, `~` to nobody."""
    if not export_to or "*" in export_to or namespace in export_to:
        return True
    return "." in export_to and own == namespace


def visible_services(namespace: Namespace, snapshot: Snapshot) -> Iterator[Service]:
    """What proxies of a namespace know of, whichever clusters they are in, in the order of services."""
    for _, service in sorted(snapshot.services.items()):
        if is_exported(service.export_to, service.namespace, namespace):
            yield service


def ports_of(namespace: Namespace, snapshot: Snapshot) -> Iterator[tuple[Service, ServicePort, bool]]:
    """Every service port that can be an upstream, in the order of services and port numbers, and whether the namespace sees it.

    A network gateway passes through also what its own namespace does not see: whoever calls it through there does.
    """
    for _, service in sorted(snapshot.services.items()):
        is_visible = is_exported(service.export_to, service.namespace, namespace)
        for port in service.ports:
            if port.protocol is not Protocol.UDP:
                yield service, port, is_visible


def exposures_for(scope: Scope, snapshot: Snapshot) -> list[Exposure]:
    """The exposures whose selector chooses this gateway. An empty selector chooses every gateway, as in Istio."""
    if scope.kind is not ProxyKind.ROUTER:
        return []
    labels = dict(scope.labels)
    return [
        exposure for exposure in snapshot.exposures if all(labels.get(key) == value for key, value in exposure.selector)
    ]


def exposes(exposure: Exposure, service: Service) -> bool:
    """Whether one of the hosts, as written, names the service: `*.local`, `host`, `namespace/host`, `./host`, `*/host`.

    A service that is there for nobody is not exposed.
    """
    return "~" not in service.export_to and any(
        _host_matches(host, exposure.namespace, service) for host in exposure.hosts
    )


def _host_matches(written: str, own: Namespace, service: Service) -> bool:
    namespace, slash, host = written.rpartition("/")
    if slash and namespace not in ("*", service.namespace) and not (namespace == "." and service.namespace == own):
        return False
    return covers(host, service.hostname)
