"""For which namespaces an object is there, and which hosts a network gateway passes through."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.discovery.headless import hosts_exposed
from isthmus.model.names import Namespace, covers
from isthmus.model.services import Service
from isthmus.model.snapshot import Exposure, MeshSettings, Snapshot
from isthmus.model.views import ProxyKind, Scope


def is_exported(export_to: Sequence[str], own: Namespace, namespace: Namespace) -> bool:
    """Whether an object of the namespace `own` is there for another namespace. Silence exports to all, `~` to nobody."""
    if is_for_all(export_to) or namespace in export_to:
        return True
    return "." in export_to and own == namespace


def is_for_all(export_to: Sequence[str]) -> bool:
    """Whether the object is there for every namespace."""
    return not export_to or "*" in export_to


def exposures_for(scope: Scope, snapshot: Snapshot) -> list[Exposure]:
    """The exposures whose selector chooses this gateway. An empty selector chooses every gateway, as in Istio."""
    if scope.kind is not ProxyKind.ROUTER:
        return []
    labels = dict(scope.labels)
    return [
        exposure
        for exposure in snapshot.exposures
        if exposure.within in ("", scope.namespace)
        and all(labels.get(key) == value for key, value in exposure.selector)
    ]


def exposes(exposure: Exposure, service: Service, settings: MeshSettings) -> bool:
    """Whether one of the hosts, as written, names the service: `*.local`, `host`, `namespace/host`, `./host`, `*/host`.

    A service that is there for nobody is not exposed.
    """
    return "~" not in (service.export_to or settings.service_export_to) and any(
        _host_matches(host, exposure.namespace, service) for host in exposure.hosts
    )


def _host_matches(written: str, own: Namespace, service: Service) -> bool:
    namespace, slash, host = written.rpartition("/")
    if slash and namespace not in ("*", service.namespace) and not (namespace == "." and service.namespace == own):
        return False
    return any(covers(host, each) for each in hosts_exposed(service))
