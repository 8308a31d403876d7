"""What the proxies of one scope see: services, at which ports, and the VirtualServices that hold for them.

Every service is visible everywhere until a rule narrows it: its own exportTo (or the mesh's default), then the one Sidecar that holds.
A service to which an imported VirtualService routes is seen, too, unless the Sidecar imports it already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from isthmus.discovery.headless import host_of, is_near
from isthmus.discovery.visibility import is_exported, is_for_all
from isthmus.model.names import Hostname, Namespace, ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.routing import VirtualService
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.sidecars import ALL_PORTS, Egress, Elsewhere, Placed, Placement, SeenPorts, Sidecar
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass
from isthmus.model.views import ProxyKind, Scope, upstream_name


@dataclass(frozen=True, slots=True)
class Sight:
    """`ports` of each visible service, in the order of services; `ALL_PORTS` is every port."""

    ports: Mapping[ServiceKey, frozenset[int]]
    virtual_services: tuple[VirtualService, ...]
    elsewhere: Elsewhere
    placement: Placement
    rule_names: frozenset[tuple[str, str]]

    @staticmethod
    def of(
        ports: Mapping[ServiceKey, frozenset[int]],
        rules: tuple[VirtualService, ...],
        elsewhere: Elsewhere,
        placement: Placement,
    ) -> Sight:
        return Sight(ports, rules, elsewhere, placement, frozenset((rule.namespace, rule.name) for rule in rules))

    def holds(self, rule: VirtualService) -> bool:
        """Whether the VirtualService is there for the scope's proxies."""
        return (rule.namespace, rule.name) in self.rule_names

    def sees(self, service: Service, port: ServicePort | None = None) -> bool:
        """Whether the service, or this port of it, is there for the scope's proxies."""
        seen = self.ports.get(service.key)
        return seen is not None and (port is None or not seen or port.number in seen)


def exported_to(scope: Scope, snapshot: Snapshot) -> Mapping[ServiceKey, Service]:
    """The services that the scope's proxies may see, in order. Whose they are is asked only of those that are not there for everybody."""
    default = snapshot.settings.service_export_to

    def is_there(service: Service) -> bool:
        said = service.export_to or default
        return is_for_all(said) or is_exported(said, service.namespace, scope.namespace)

    return {
        key: service
        for key, service in sorted(snapshot.services.items())
        if is_there(service) and not (service.pod_of and is_near(scope, service))
    }


def sight_of(scope: Scope, snapshot: Snapshot, exported: Mapping[ServiceKey, Service] | None = None) -> Sight:
    """What all proxies of the scope see. `exported` is what `exported_to` gives, where that is known already."""
    settings = snapshot.settings
    services = exported_to(scope, snapshot) if exported is None else exported

    def is_there(rule: VirtualService) -> bool:
        said = rule.export_to or settings.virtual_service_export_to
        return is_for_all(said) or is_exported(said, rule.namespace, scope.namespace)

    rules = tuple(filter(is_there, snapshot.virtual_services))
    sidecar = sidecar_for(scope, snapshot)
    if sidecar is None:
        return Sight.of(dict.fromkeys(services, ALL_PORTS), rules, Elsewhere(settings.registry_only), Placement())
    namespace = scope.namespace
    elsewhere = _elsewhere(sidecar, namespace, services, registry_only=settings.registry_only)
    if sidecar.egress is None:
        return Sight.of(dict.fromkeys(services, ALL_PORTS), rules, elsewhere, Placement())
    imported = tuple(rule for rule in rules if any(_imports_rule(egress, rule) for egress in sidecar.egress))
    ports = _ports(sidecar.egress, imported, namespace, services)
    placement = _placement(sidecar.egress, imported, namespace, services)
    if sidecar.egress_proxy and elsewhere.by_way_of:
        proxy = _named(sidecar.egress_proxy.host, namespace, services)
        if proxy is not None:
            ports.setdefault(proxy.key, frozenset((sidecar.egress_proxy.port,)))
    return Sight.of(dict(sorted(ports.items())), imported, elsewhere, placement)


def _ports(
    listeners: Sequence[Egress],
    rules: tuple[VirtualService, ...],
    namespace: Namespace,
    services: Mapping[ServiceKey, Service],
) -> dict[ServiceKey, frozenset[int]]:
    """What the listeners import, and what the rules that they import lead to."""
    ports: dict[ServiceKey, frozenset[int]] = {}
    for egress in listeners:
        for key, seen in _imported(egress, services):
            ports[key] = _both(ports.get(key), seen)
    for egress in listeners:
        for key, seen in _routed_to(egress, rules, namespace, services):
            ports.setdefault(key, seen)
    return ports


def _placement(
    listeners: Sequence[Egress],
    rules: tuple[VirtualService, ...],
    namespace: Namespace,
    services: Mapping[ServiceKey, Service],
) -> Placement:
    if not any(egress.place for egress in listeners):
        return Placement()

    def found(some: Sequence[Egress]) -> SeenPorts:
        return tuple(sorted(_ports(some, rules, namespace, services).items()))

    placed = tuple(Placed(egress.place, found([egress])) for egress in listeners if egress.place)
    return Placement(placed, found([egress for egress in listeners if not egress.place]))


def _elsewhere(
    sidecar: Sidecar,
    namespace: Namespace,
    services: Mapping[ServiceKey, Service],
    *,
    registry_only: bool,
) -> Elsewhere:
    """As the Sidecar says, else the mesh. An egress proxy that nobody declares is as good as none, and whatever would go there ends."""
    only = registry_only if sidecar.registry_only is None else sidecar.registry_only
    proxy = sidecar.egress_proxy
    if only or proxy is None:
        return Elsewhere(only)
    service = _named(proxy.host, namespace, services)
    if service is None or not _has(service, proxy.port):
        return Elsewhere(registry_only=True)
    return Elsewhere(by_way_of=upstream_name(proxy.port, proxy.subset, service.hostname))


def everybody_sees(rules: Sequence[VirtualService], snapshot: Snapshot) -> bool:
    """Whether the rules are there for every scope, so that it need not be asked who calls."""
    default = snapshot.settings.virtual_service_export_to
    return not snapshot.sidecars and all(is_for_all(rule.export_to or default) for rule in rules)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why the scope's proxies do not see a service: the rule's object, what it says, and the edit that would show the service."""

    rule: Origin
    detail: str
    edit: str


def unseen(scope: Scope, service: Service, snapshot: Snapshot) -> Unseen | None:
    """The first rule that hides the service; None where it is seen."""
    settings, namespace = snapshot.settings, scope.namespace
    if service.pod_of and is_near(scope, service):
        service = snapshot.services[service.pod_of]
    if not is_exported(service.export_to or settings.service_export_to, service.namespace, namespace):
        if service.export_to:
            rule = service.origin
            field = f"exportTo of {rule}"
        else:
            rule = Origin("MeshConfig", settings.root_namespace, "istio")
            field = "defaultServiceExportTo of MeshConfig"
        to = ", ".join(map(repr, service.export_to or settings.service_export_to))
        return Unseen(rule, f"it is exported to {to} alone, not to {namespace}", f"add {namespace} to {field}")
    sidecar = sidecar_for(scope, snapshot)
    if sidecar is None or sight_of(scope, snapshot).sees(service):
        return None
    rule = Origin("Sidecar", sidecar.namespace, sidecar.name)
    own = "." if service.namespace == namespace else service.namespace
    return Unseen(rule, f"{rule} does not import it", f"add {own}/{service.hostname} to spec.egress[].hosts of {rule}")


def sidecar_for(scope: Scope, snapshot: Snapshot) -> Sidecar | None:
    """The one that holds: the oldest of the namespace that chooses the workload, else the namespace's own, else the mesh's."""
    if scope.kind is ProxyKind.ROUTER or not snapshot.sidecars:
        return None
    own = [sidecar for sidecar in snapshot.sidecars if sidecar.namespace == scope.namespace]
    labels = dict(scope.labels)
    chosen = [sidecar for sidecar in own if sidecar.selector and all(labels.get(k) == v for k, v in sidecar.selector)]
    general = [sidecar for sidecar in own if not sidecar.selector]
    root = snapshot.settings.root_namespace
    of_mesh = [sidecar for sidecar in snapshot.sidecars if sidecar.namespace == root and not sidecar.selector]
    return next(iter((*chosen, *general, *of_mesh)), None)


def _imported(egress: Egress, services: Mapping[ServiceKey, Service]) -> Iterator[tuple[ServiceKey, frozenset[int]]]:
    """A listener for one port imports that port alone, of services that have it."""
    for key, service in services.items():
        if any(egress.takes(service.namespace, host) for host in {service.hostname, host_of(service)}):
            if not egress.port:
                yield key, ALL_PORTS
            elif _has(service, egress.port):
                yield key, frozenset((egress.port,))


def _both(one: frozenset[int] | None, other: frozenset[int]) -> frozenset[int]:
    if one is None:
        return other
    return one | other if one and other else ALL_PORTS


def _imports_rule(egress: Egress, rule: VirtualService) -> bool:
    return any(egress.takes(rule.namespace, host) for host in rule.hosts)


def _routed_to(
    egress: Egress, rules: tuple[VirtualService, ...], namespace: Namespace, services: Mapping[ServiceKey, Service]
) -> Iterator[tuple[ServiceKey, frozenset[int]]]:
    for rule in rules:
        if not _imports_rule(egress, rule):
            continue
        for host, ports in _destinations(rule).items():
            service = _named(host, namespace, services)
            if service is None:
                continue
            if egress.port:
                if _has(service, egress.port):
                    yield service.key, frozenset((egress.port,))
            elif not ports:
                yield service.key, ALL_PORTS
            elif seen := frozenset(port for port in ports if _has(service, port)):
                yield service.key, seen


def _destinations(rule: VirtualService) -> dict[Hostname, frozenset[int]]:
    """Hosts with their ports; ALL_PORTS where one is named without."""
    found: dict[Hostname, frozenset[int]] = {}
    for target in rule.all_targets():
        named = frozenset((target.port,)) if target.port else ALL_PORTS
        found[target.host] = _both(found.get(target.host), named)
    return found


def _named(host: Hostname, namespace: Namespace, services: Mapping[ServiceKey, Service]) -> Service | None:
    """The caller's own namespace's comes first, then the first by namespace."""
    own = services.get(ServiceKey(namespace, host))
    return own or next((service for service in services.values() if service.hostname == host), None)


def _has(service: Service, port: int) -> bool:
    return any(each.number == port and each.protocol is not Protocol.UDP for each in service.ports)
