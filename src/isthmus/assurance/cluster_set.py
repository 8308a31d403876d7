"""What a controller of the Multi-Cluster Services API (KEP-1645) has to say, as a pure function of all clusters' exports: the ServiceImports that
one cluster should have, and what its ServiceExports are told.

Services of one name are one service of the set, as far as they are exported. Where exports disagree, the oldest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

import msgspec

from isthmus.api.core import Namespace as NamespaceObject
from isthmus.api.core import Service
from isthmus.api.multicluster import ServiceExport, ServiceImport, ServiceImportPort, ServiceImportSpec
from isthmus.assurance.conditions import conditions
from isthmus.assurance.gateway_status import WantedStatus
from isthmus.ingest.allocation import place_of_set_address, places_of, set_addresses_at
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.attachments import Condition
from isthmus.model.names import ClusterId, Hostname, Namespace, ServiceKey
from isthmus.model.values import dataclass

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "isthmus-cluster-set"
"""The label of the imports that are ours. All others are left alone."""

CLUSTER_SET_IP, HEADLESS = "ClusterSetIP", "Headless"
_NO_CONFLICTS = Condition("Conflict", False, "NoConflicts")

Object = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedImport:
    """An import that is not as it should be. `found` is what is there: ours, or nothing."""

    namespace: str
    name: str
    spec: ServiceImportSpec
    status: Object
    found: ServiceImport | None

    @property
    def has_spec(self) -> bool:
        return self.found is not None and self.found.spec == self.spec

    @property
    def has_status(self) -> bool:
        return self.found is not None and {name: self.found.status.get(name) for name in self.status} == self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSetPlan:
    """What there is to do in one cluster. `gone` are imports of ours that nobody exports any more."""

    imports: tuple[WantedImport, ...]
    gone: tuple[ServiceImport, ...]
    statuses: tuple[WantedStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exported:
    """A Service of a cluster that exports it."""

    cluster: ClusterId
    created: str
    service: Service

    @property
    def type(self) -> str:
        return HEADLESS if self.service.spec.cluster_i_p == "None" else CLUSTER_SET_IP


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """One service of the set: its exports, the oldest first, and what they do not agree on."""

    exports: Sequence[_Exported]
    ports: tuple[ServiceImportPort, ...]
    conflicts: tuple[Condition, ...]

    @property
    def oldest(self) -> _Exported:
        return self.exports[0]


def cluster_set_plan(clusters: Sequence[ClusterInput], own: ClusterId, domain: str, now: str) -> ClusterSetPlan:
    """For the cluster `own`, which is one of them. `domain` is the cluster set's."""
    here = next(cluster for cluster in clusters if cluster.id == own)
    merged = {key: _merge(exports) for key, exports in sorted(_exports(clusters).items())}
    found = {key: obj for key, obj in here.objects.get("ServiceImport", {}).items() if isinstance(obj, ServiceImport)}
    ours = {key: obj for key, obj in found.items() if _is_ours(obj)}
    addresses = _addresses(merged, ours, domain)
    wanted = [
        _import(key, service, addresses.get(key, ()), ours.get(key), now)
        for key, service in merged.items()
        if _takes_imports(here, key[0]) and (key in ours or key not in found)
    ]
    needed = {(each.namespace, each.name) for each in wanted}
    return ClusterSetPlan(
        imports=tuple(each for each in wanted if not (each.has_spec and each.has_status)),
        gone=tuple(obj for key, obj in sorted(ours.items()) if key not in needed and not _is_leaving(obj)),
        statuses=tuple(_statuses(here, merged, now)),
    )


def _is_ours(obj: ServiceImport) -> bool:
    return obj.metadata.labels.get(MANAGED_BY) == MANAGER


def _is_leaving(obj: NamespaceObject | ServiceExport | ServiceImport) -> bool:
    return bool(obj.metadata.deletion_timestamp)


def _takes_imports(here: ClusterInput, namespace: str) -> bool:
    """The specification gives an import to clusters that have its namespace, and to no others."""
    found = here.objects.get("Namespace", {}).get(("", namespace))
    return isinstance(found, NamespaceObject) and not _is_leaving(found)


def _exports(clusters: Sequence[ClusterInput]) -> Mapping[Key, list[_Exported]]:
    """Those that are valid."""
    found: dict[Key, list[_Exported]] = {}
    for cluster in clusters:
        for key, export in cluster.objects.get("ServiceExport", {}).items():
            if not isinstance(export, ServiceExport) or _is_leaving(export):
                continue
            service = cluster.objects.get("Service", {}).get(key)
            if isinstance(service, Service) and _is_exportable(service):
                one = _Exported(cluster=cluster.id, created=export.metadata.creation_timestamp, service=service)
                found.setdefault(key, []).append(one)
    return found


def _is_exportable(service: Service) -> bool:
    return service.spec.type != "ExternalName"


def _merge(exports: list[_Exported]) -> _Merged:
    by_age = sorted(exports, key=lambda each: (each.created, each.cluster))
    ports, of_ports = _merge_ports(by_age)
    found = [
        _disagreement(by_age, "TypeConflict", "the type", lambda each: each.type),
        of_ports,
        _disagreement(by_age, "SessionAffinityConflict", "sessionAffinity", _affinity),
        _disagreement(
            by_age,
            "SessionAffinityConfigConflict",
            "sessionAffinityConfig",
            lambda each: msgspec.json.encode(each.service.spec.session_affinity_config, order="deterministic").decode(),
        ),
    ]
    return _Merged(exports=by_age, ports=ports, conflicts=tuple(each for each in found if each is not None))


def _affinity(exported: _Exported) -> str:
    return exported.service.spec.session_affinity or "None"


def _disagreement(
    by_age: Sequence[_Exported], reason: str, what: str, value: Callable[[_Exported], str]
) -> Condition | None:
    oldest = by_age[0]
    others = [f"{each.cluster} has {value(each)}" for each in by_age if value(each) != value(oldest)]
    if not others:
        return None
    return Condition("Conflict", True, reason, f"{what}: {_counts(oldest)}: {value(oldest)}; {', '.join(others)}")


def _counts(oldest: _Exported) -> str:
    return f"that of the oldest export counts, of {oldest.cluster}"


def _merge_ports(by_age: Sequence[_Exported]) -> tuple[tuple[ServiceImportPort, ...], Condition | None]:
    """All ports of all exports; one that is at odds with an older export's, by name or by number, is left out."""
    taken: list[tuple[_Exported, ServiceImportPort]] = []
    conflicts = []
    for exported in by_age:
        for port in _ports(exported):
            older = next((each for each in taken if _are_one(each[1], port)), None)
            if older is None:
                taken.append((exported, port))
            elif older[1] != port:
                conflicts.append(
                    f"{_shown(port)} of {exported.cluster} gives way to {_shown(older[1])} of {older[0].cluster}"
                )
    told = Condition("Conflict", True, "PortConflict", f"ports: {', '.join(conflicts)}") if conflicts else None
    return tuple(sorted((port for _, port in taken), key=lambda port: (port.port, port.protocol))), told


def _ports(exported: _Exported) -> Iterator[ServiceImportPort]:
    for port in exported.service.spec.ports:
        yield ServiceImportPort(
            port=port.port, name=port.name, protocol=port.protocol or "TCP", app_protocol=port.app_protocol
        )


def _are_one(one: ServiceImportPort, other: ServiceImportPort) -> bool:
    """Whether only one of them has room in an import."""
    return one.name == other.name or (one.protocol, one.port) == (other.protocol, other.port)


def _shown(port: ServiceImportPort) -> str:
    name = f"{port.name} " if port.name else ""
    application = f" ({port.app_protocol})" if port.app_protocol else ""
    return f"{name}{port.port}/{port.protocol}{application}"


def _import(
    key: Key, service: _Merged, addresses: Sequence[str], found: ServiceImport | None, now: str
) -> WantedImport:
    spec, there = _spec(service, addresses), found or ServiceImport()
    clusters = [{"cluster": cluster} for cluster in sorted(each.cluster for each in service.exports)]
    told = conditions((_readiness(spec),), there.status, there, now)
    status: Object = {"clusters": clusters, "conditions": told}
    return WantedImport(namespace=key[0], name=key[1], spec=spec, status=status, found=found)


def _readiness(spec: ServiceImportSpec) -> Condition:
    """A name without an address resolves to Pods, and is ready at once."""
    if spec.type == HEADLESS or spec.ips:
        return Condition("Ready", True, "Ready", "the name resolves, and its exports answer")
    return Condition("Ready", False, "Pending", "every address of the set is given to an older name")


def _spec(service: _Merged, addresses: Sequence[str]) -> ServiceImportSpec:
    said = service.oldest.service.spec
    return ServiceImportSpec(
        type=service.oldest.type,
        ips=list(addresses),
        ports=list(service.ports),
        session_affinity=_affinity(service.oldest),
        session_affinity_config=said.session_affinity_config,
    )


def _addresses(
    merged: Mapping[Key, _Merged], ours: Mapping[Key, ServiceImport], domain: str
) -> Mapping[Key, tuple[str, ...]]:
    """One for each family that the oldest export's Service has. What an import of ours has already, it keeps."""
    named = {
        ServiceKey(Namespace(key[0]), Hostname(f"{key[1]}.{key[0]}.svc.{domain}")): key
        for key, service in merged.items()
        if service.oldest.type == CLUSTER_SET_IP
    }
    held = {}
    for service_key, key in named.items():
        places = map(place_of_set_address, ours[key].spec.ips if key in ours else ())
        place = next((each for each in places if each is not None), None)
        if place is not None:
            held[service_key] = place
    ages = ((merged[key].oldest.created, service_key) for service_key, key in named.items())
    return {
        named[service_key]: _of_families(merged[named[service_key]].oldest.service, set_addresses_at(place))
        for service_key, place in places_of(ages, held).items()
    }


def _of_families(service: Service, addresses: tuple[str, str]) -> tuple[str, ...]:
    spec = service.spec
    has = {_is_ipv6(each) for each in [spec.cluster_i_p, *spec.cluster_i_ps] if each} or {False}
    return tuple(address for is_ipv6, address in zip((False, True), addresses, strict=True) if is_ipv6 in has)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False


def _statuses(here: ClusterInput, merged: Mapping[Key, _Merged], now: str) -> Iterator[WantedStatus]:
    for key, export in sorted(here.objects.get("ServiceExport", {}).items()):
        if not isinstance(export, ServiceExport) or _is_leaving(export):
            continue
        valid = _validity(here.objects.get("Service", {}).get(key))
        conflict = _conflict(merged[key].conflicts) if valid.holds else _NO_CONFLICTS
        told = conditions((valid, _export_readiness(valid), conflict), export.status, export, now)
        if export.status.get("conditions") != told:
            yield WantedStatus(
                kind="ServiceExport",
                namespace=key[0],
                name=key[1],
                version=export.metadata.resource_version,
                status={"conditions": told},
                is_there=False,
            )


def _validity(service: object) -> Condition:
    if not isinstance(service, Service):
        return Condition("Valid", False, "NoService", "there is no Service of this name; the export waits for one")
    if not _is_exportable(service):
        return Condition("Valid", False, "InvalidServiceType", "a Service of type ExternalName cannot be exported")
    return Condition("Valid", True, "Valid", "the Service is exported")


def _export_readiness(valid: Condition) -> Condition:
    """Control planes read exports themselves: one that is valid is exported."""
    if valid.holds:
        return Condition("Ready", True, "Exported", "every control plane that discovers this cluster reads it")
    return Condition("Ready", False, "Pending", "the export is not valid")


def _conflict(found: Sequence[Condition]) -> Condition:
    """The reason is that of the first; the message has all."""
    if not found:
        return _NO_CONFLICTS
    return Condition("Conflict", True, found[0].reason, "; ".join(each.message for each in found))
