"""On which ports does a proxy's own workload answer, and for which services?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from isthmus.discovery.callers import scope_for
from isthmus.discovery.destination_rules import rule_for
from isthmus.discovery.envoy_filters import patches_for
from isthmus.discovery.federation import with_guests
from isthmus.discovery.security import authorization_for, mutual_tls_rule, port_modes
from isthmus.discovery.sight import sidecar_for
from isthmus.discovery.telemetry import reporting_for
from isthmus.model.federation import Guests
from isthmus.model.names import ServiceKey
from isthmus.model.security import MutualTlsMode
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.sidecars import Ingress
from isthmus.model.snapshot import Snapshot
from isthmus.model.telemetry import Mode
from isthmus.model.traffic import DestinationRule
from isthmus.model.views import InboundPort, InboundView, Proxy, ProxyKind, Scope

_TLS_MODE = "security.istio.io/tlsMode"


def inbound_view(proxy: Proxy, snapshot: Snapshot) -> InboundView:
    """What the proxy lets in. A gateway has no workload of its own."""
    if proxy.scope.kind is ProxyKind.ROUTER:
        return InboundView()
    namespace, scope = proxy.scope.namespace, scope_for(proxy, snapshot)
    sidecar = sidecar_for(scope, snapshot)
    of_services = inbound_ports(proxy, scope, snapshot)
    mode, origin = mutual_tls_rule(namespace, proxy.labels, 0, snapshot)
    ports = (
        of_services
        if sidecar is None or sidecar.ingress is None
        else _of_sidecar(sidecar.ingress, of_services, proxy, snapshot)
    )
    authorization = authorization_for(namespace, proxy.labels, snapshot)
    authorization = with_guests(authorization, _guests(proxy, snapshot), snapshot)
    if sidecar is not None and sidecar.inbound_pool is not None:
        own = {each.port for each in sidecar.ingress or () if each.pool is not None}
        ports = tuple(each if each.target_port in own else replace(each, pool=sidecar.inbound_pool) for each in ports)
    if proxy.scope.kind is ProxyKind.PROXYLESS:
        serves = tuple(replace(port, tls=_one_of_two(port.tls, proxy)) for port in of_services)
        return InboundView(ports=serves, addresses=proxy.ips, authorization=authorization)
    return InboundView(
        ports=ports,
        other_ports=tuple(
            (number, mode)
            for number, mode in port_modes(namespace, proxy.labels, snapshot)
            if number not in {port.target_port for port in ports if not port.bound_to}
        ),
        tls=mode,
        tls_origin=origin,
        authorization=authorization,
        reporting=reporting_for(proxy.scope, proxy.labels, Mode.SERVER, snapshot),
        patches=patches_for(scope, snapshot),
        ip_families=scope.ip_families,
        cut=snapshot.settings.own_trust.cut,
        judges_by_one_bundle=scope.trusts_in_one_bundle,
    )


def _one_of_two(mode: MutualTlsMode, proxy: Proxy) -> MutualTlsMode:
    """A server without a proxy cannot take both TLS and plaintext on one port: it takes what callers are told of it."""
    if mode is not MutualTlsMode.PERMISSIVE:
        return mode
    return MutualTlsMode.STRICT if (_TLS_MODE, "istio") in proxy.labels else MutualTlsMode.DISABLE


def _of_sidecar(
    ingress: Sequence[Ingress], of_services: Sequence[InboundPort], proxy: Proxy, snapshot: Snapshot
) -> tuple[InboundPort, ...]:
    """The ports that a Sidecar lists take the place of all that services declare; the first of a number counts."""
    known = {port.target_port: port for port in of_services}
    ports: dict[int, InboundPort] = {}
    for each in ingress:
        of_service = known.get(each.port)
        mode, origin = mutual_tls_rule(proxy.scope.namespace, proxy.labels, each.port, snapshot)
        port = InboundPort(
            target_port=each.port,
            service_port=each.port,
            port_name=each.name,
            protocol=each.protocol,
            hostname=of_service.hostname if of_service else "",
            tls=mode,
            tls_origin=origin,
            forward_to=each.forward_to,
            own_tls=each.tls,
            pool=each.pool or (of_service.pool if of_service else None),
            bound_to=_bound_to(each, proxy),
        )
        ports.setdefault(each.port, port)
    return tuple(port for _, port in sorted(ports.items()))


def _bound_to(ingress: Ingress, proxy: Proxy) -> str:
    return (ingress.address or next(iter(proxy.ips), "")) if ingress.is_bound else ""


def inbound_ports(proxy: Proxy, scope: Scope, snapshot: Snapshot) -> tuple[InboundPort, ...]:
    """One for each target port, sorted. Where several services share one, the first by name and port describes it."""
    ports: dict[int, InboundPort] = {}
    for port in sorted(
        _candidates(proxy, scope, snapshot), key=lambda port: (port.target_port, port.hostname, port.service_port)
    ):
        ports.setdefault(port.target_port, port)
    return tuple(port for _, port in sorted(ports.items()))


def _candidates(proxy: Proxy, scope: Scope, snapshot: Snapshot) -> Iterator[InboundPort]:
    rules: dict[ServiceKey, DestinationRule | None] = {}
    for service, port, target in _served(proxy, snapshot):
        if service.key not in rules:
            rules[service.key] = rule_for(scope, service, snapshot)
        rule = rules[service.key]
        mode, origin = mutual_tls_rule(proxy.scope.namespace, proxy.labels, target, snapshot)
        yield InboundPort(
            target_port=target,
            service_port=port.number,
            port_name=port.name,
            protocol=port.protocol,
            hostname=service.hostname,
            tls=mode,
            tls_origin=origin,
            pool=rule.policy_for(port.number, None).pool if rule else None,
        )


def _guests(proxy: Proxy, snapshot: Snapshot) -> Mapping[int, frozenset[Guests]]:
    """Who of other meshes may come in, by the workload's own port."""
    found: dict[int, frozenset[Guests]] = {}
    if snapshot.mesh_peers:
        for service, _, target in _served(proxy, snapshot):
            found[target] = found.get(target, frozenset()).union(snapshot.guests.get(service.key, ()))
    return found


def _served(proxy: Proxy, snapshot: Snapshot) -> Iterator[tuple[Service, ServicePort, int]]:
    """Ports of services that the workload answers for, each with its own number for it. A mesh name is another name for one of these.

    An address is the proxy's only together with its cluster and network: another network's Pod may have the same one.
    """
    found = {key for ip in proxy.ips for key in snapshot.keys_by_address.get((proxy.cluster, ip), ())}
    for key in sorted(found):
        service = snapshot.services[key]
        if service.is_second_name:
            continue  # The service that it is another name for, or the headless one that it is a Pod of, says the same.
        for endpoint in snapshot.endpoints.get(key, ()):
            if endpoint.ip not in proxy.ips or endpoint.cluster != proxy.cluster:
                continue
            if endpoint.network != proxy.scope.network:
                continue
            for port in service.ports:
                target = endpoint.port_named(port.name)
                if target is not None and port.protocol is not Protocol.UDP:
                    yield service, port, target
