"""Which services there are by host name, and who sees them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from isthmus.assurance.analysis.items import Index, Item, ports_of
from isthmus.model.values import dataclass

_EXPORT_TO = "networking.istio.io/exportTo"


@dataclass(frozen=True, slots=True)
class KnownHost:
    """One name that may be called: a Service or a host of a ServiceEntry."""

    host: str
    source: Item
    ports: tuple[int, ...]
    export_to: frozenset[str]

    def is_seen_from(self, namespace: str) -> bool:
        if "*" in self.export_to or namespace in self.export_to:
            return True
        return "." in self.export_to and namespace == self.source.namespace


def full_host(host: str, namespace: str, domain: str = "cluster.local") -> str:
    """As the mesh completes a name: without a dot it is a Service of the namespace; `name.namespace` and `….svc` are Services, too."""
    if "." not in host and host != "*":
        return f"{host}.{namespace}.svc.{domain}"
    return host


class Hosts:
    """All names that the objects of an index make known."""

    def __init__(self, index: Index) -> None:
        self._by_host: dict[str, list[KnownHost]] = defaultdict(list)
        self._wildcards: list[KnownHost] = []
        config = index.settings.mesh_config
        default = frozenset(config.get("defaultServiceExportTo") or ["*"])
        for service in index.anywhere("Service"):
            said = service.annotations.get(_EXPORT_TO)
            exported = frozenset(part.strip() for part in said.split(",")) if said else default
            host = f"{service.name}.{service.namespace}.svc.{index.settings.dns_domain}"
            self._add(KnownHost(host, service, tuple(port.get("port") or 0 for port in ports_of(service)), exported))
        for entry in index.anywhere("ServiceEntry"):
            exported = frozenset(entry.spec.get("exportTo") or default)
            ports = tuple(port.get("number") or 0 for port in entry.spec.get("ports") or [])
            for host in entry.spec.get("hosts") or []:
                self._add(KnownHost(host, entry, ports, exported))
        for imported in index.anywhere("ServiceImport"):
            ports = tuple(port.get("port") or 0 for port in imported.spec.get("ports") or [])
            host = f"{imported.name}.{imported.namespace}.svc.clusterset.local"
            self._add(KnownHost(host, imported, ports, frozenset("*")))

    def _add(self, known: KnownHost) -> None:
        if known.host.startswith("*"):
            self._wildcards.append(known)
        else:
            self._by_host[known.host].append(known)

    def named(self, host: str, namespace: str) -> Sequence[KnownHost]:
        """What a host means in a namespace, seen or not. A name that could be a Service's is tried as one, too."""
        whole = full_host(host, namespace)
        candidates = [whole]
        if whole == host and not host.endswith(".svc.cluster.local"):
            stem = host.removesuffix(".svc")
            if stem.count(".") == 1:
                candidates.append(f"{stem}.svc.cluster.local")
        found = [known for name in candidates for known in self._by_host.get(name, ())]
        if host.startswith("*"):
            found += [known for known in self._all() if known.host.endswith(host[1:])]
        return found or [known for known in self._wildcards if whole.endswith(known.host[1:]) or known.host == host]

    def _all(self) -> list[KnownHost]:
        return [known for each in self._by_host.values() for known in each] + self._wildcards


def service_host(service: Item) -> str:
    return f"{service.name}.{service.namespace}.svc.cluster.local"
