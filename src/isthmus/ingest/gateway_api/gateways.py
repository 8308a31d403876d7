"""Gateways of a GatewayClass that is ours: where they are served, what they listen for, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.api import core
from isthmus.api import gateway_api as api
from isthmus.ingest import labels
from isthmus.ingest.gateway_api.listener_sets import OpenListenerSet, ParentOfSets, open_listener_sets
from isthmus.ingest.gateway_api.listeners import OpenListener, Owner, open_listeners, told_apart
from isthmus.ingest.gateway_api.objects import Objects
from isthmus.ingest.gateway_api.references import Grants
from isthmus.model.addresses import is_ip
from isthmus.model.attachments import ACCEPTED, PROGRAMMED, RESOLVED, Condition, GatewayAttachments
from isthmus.model.gateways import Server
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.security import Labels
from isthmus.model.selectors import GATEWAY_NAME
from isthmus.model.snapshot import Exposure
from isthmus.model.topology import NetworkGateway
from isthmus.model.values import dataclass

CONTROLLER = "istio.io/gateway-controller"
UNMANAGED = "istio.io/unmanaged-gateway"
"""Of Gateways that describe what runs elsewhere: their addresses count, and nothing is served."""

BUILT_IN = {"istio": CONTROLLER, "isthmus": CONTROLLER, "istio-remote": UNMANAGED}
"""Classes that are ours, as long as no GatewayClass of that name says something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGateway:
    """A Gateway with what was made of it, and of the ListenerSets that add to it. `selectors` choose its proxies, in its own namespace."""

    gateway: api.KubernetesGateway
    listeners: tuple[OpenListener, ...]
    listener_sets: tuple[OpenListenerSet, ...]
    selectors: tuple[Labels, ...]
    addresses: tuple[tuple[str, str], ...]
    accepted: Condition
    programmed: Condition

    @property
    def every_listener(self) -> tuple[OpenListener, ...]:
        """Its own, and behind them those of ListenerSets."""
        return (*self.listeners, *(listener for each in self.listener_sets for listener in each.listeners))

    def servers(self) -> Iterator[Server]:
        """What its proxies listen for, but what network gateways pass through."""
        for selector in self.selectors:
            for listeners in (self.listeners, *(each.listeners for each in self.listener_sets)):
                for index, listener in enumerate(listeners):
                    server = listener.server(index, selector)
                    if server is not None:
                        yield server

    def exposures(self) -> Iterator[Exposure]:
        """What it passes through by SNI, as a network gateway."""
        namespace = Namespace(self.gateway.metadata.namespace)
        for selector in self.selectors:
            for listener in self.every_listener:
                if listener.is_auto_passthrough and listener.is_served:
                    yield Exposure(
                        namespace=namespace,
                        name=self.gateway.metadata.name,
                        selector=selector,
                        port=listener.listener.port,
                        hosts=(listener.listener.hostname or "*",),
                        within=namespace,
                    )

    def network_gateways(self, cluster: ClusterId) -> Iterator[NetworkGateway]:
        """The ways into the network that it is labelled with, some by host names. What is described only may be in any cluster."""
        network = self.gateway.metadata.labels.get(labels.NETWORK, "")
        for _, address in self.addresses if network else ():
            for listener in self.every_listener:
                if listener.is_auto_passthrough:
                    yield NetworkGateway(
                        address=address,
                        port=listener.listener.port,
                        network=NetworkId(network),
                        cluster=cluster if self.selectors else ClusterId(""),
                    )

    def attachments(self, attached: Sequence[int]) -> GatewayAttachments:
        """With the number of routes of each of its own listeners."""
        found = tuple(each.attachments(count) for each, count in zip(self.listeners, attached, strict=True))
        accepted = self.accepted
        if accepted.holds and found and not all(listener.is_valid for listener in found):
            some = any(listener.is_valid for listener in found)
            accepted = Condition("Accepted", some, "ListenersNotValid", "see the listeners' own conditions")
        return GatewayAttachments(
            namespace=Namespace(self.gateway.metadata.namespace),
            name=self.gateway.metadata.name,
            conditions=(accepted, RESOLVED, self.programmed),
            addresses=self.addresses,
            listeners=found,
            is_deployed=bool(self.selectors) and not is_manual(self.gateway),
            ports=tuple((name, port) for port, name in sorted(self._ports().items())),
            listener_sets=self._sets_taken(),
        )

    def _ports(self) -> dict[int, str]:
        return {each.listener.port: each.listener.name for each in reversed(self.every_listener)}

    def _sets_taken(self) -> int | None:
        if self.gateway.spec.allowed_listeners is None and not self.listener_sets:
            return None
        return sum(each.accepted.holds for each in self.listener_sets)


def classes_of(objects: Objects) -> dict[str, str]:
    """The classes that are ours, with their controllers."""
    declared = {each.metadata.name: each.spec.controller_name for each in objects.classes}
    return {
        name: controller
        for name, controller in {**BUILT_IN, **declared}.items()
        if controller in (CONTROLLER, UNMANAGED)
    }


def open_gateways(objects: Objects, grants: Grants) -> Iterator[OpenGateway]:
    """Every Gateway of ours, the oldest first."""
    classes = classes_of(objects)
    for gateway in objects.gateways:
        controller = classes.get(gateway.spec.gateway_class_name)
        if controller == UNMANAGED:
            yield _described(gateway, objects, grants)
        elif controller is not None:
            yield _open(gateway, objects, grants)


def _described(gateway: api.KubernetesGateway, objects: Objects, grants: Grants) -> OpenGateway:
    listeners = _own_listeners(gateway, objects, grants)
    parent = ParentOfSets(gateway=gateway, listeners=listeners, accepted=ACCEPTED, programmed=PROGRAMMED, ports=None)
    return OpenGateway(
        gateway=gateway,
        listeners=listeners,
        listener_sets=tuple(open_listener_sets(parent, objects, grants)),
        selectors=(),
        addresses=tuple((each.type, each.value) for each in gateway.spec.addresses),
        accepted=ACCEPTED,
        programmed=PROGRAMMED,
    )


def _open(gateway: api.KubernetesGateway, objects: Objects, grants: Grants) -> OpenGateway:
    listeners = _own_listeners(gateway, objects, grants)
    for address in gateway.spec.addresses:
        if address.type not in ("IPAddress", "Hostname"):
            what = f"addresses of type {address.type} are not supported: use IPAddress or Hostname"
            accepted = Condition("Accepted", False, "UnsupportedAddress", what)
            programmed = Condition("Programmed", False, "UnsupportedAddress", what)
            parent = ParentOfSets(
                gateway=gateway, listeners=listeners, accepted=accepted, programmed=programmed, ports=None
            )
            return OpenGateway(
                gateway=gateway, listeners=listeners, listener_sets=tuple(open_listener_sets(parent, objects, grants)),
                selectors=(), addresses=(), accepted=accepted, programmed=programmed,
            )  # fmt: skip
    services, missing = _services(gateway, objects)
    selectors = [tuple(sorted(service.spec.selector.items())) for service in services if service.spec.selector]
    if not is_manual(gateway):
        selectors = [((GATEWAY_NAME, gateway.metadata.name),)]
    addresses = [address for service in services for address in _addresses(service, objects.settings.dns_domain)]
    problems = [*missing, *(problem for service in services for problem in _missing_ports(service, listeners))]
    programmed = PROGRAMMED
    if problems:
        programmed = Condition("Programmed", False, "AddressNotUsable", "; ".join(problems))
    elif not addresses:
        programmed = Condition("Programmed", False, "AddressNotAssigned", "its Service has no address yet")
    ports = [frozenset(port.port for port in service.spec.ports) for service in services]
    parent = ParentOfSets(
        gateway=gateway,
        listeners=listeners,
        accepted=ACCEPTED,
        programmed=programmed,
        ports=frozenset.intersection(*ports) if ports else None,
    )
    return OpenGateway(
        gateway=gateway,
        listeners=listeners,
        listener_sets=tuple(open_listener_sets(parent, objects, grants)),
        selectors=tuple(sorted(set(selectors))),
        addresses=tuple(dict.fromkeys(addresses)),
        accepted=ACCEPTED,
        programmed=programmed,
    )


def _own_listeners(gateway: api.KubernetesGateway, objects: Objects, grants: Grants) -> tuple[OpenListener, ...]:
    metadata = gateway.metadata
    owner = Owner("Gateway", metadata.namespace, metadata.name, metadata.creation_timestamp)
    return tuple(told_apart(open_listeners(gateway, owner, gateway.spec.listeners, objects, grants), ()))


def is_manual(gateway: api.KubernetesGateway) -> bool:
    """Whether it names a Service that is there already, instead of having one made for it."""
    return any(each.type == "Hostname" for each in gateway.spec.addresses)


def deployed_name(gateway: api.KubernetesGateway) -> str:
    """What the Deployment and the Service that are made for it are called, as Istio calls them."""
    annotated = gateway.metadata.annotations.get("gateway.istio.io/name-override", "")
    return annotated or f"{gateway.metadata.name}-{gateway.spec.gateway_class_name}"


def _services(gateway: api.KubernetesGateway, objects: Objects) -> tuple[list[core.Service], list[str]]:
    """The Services by which it is reached, and those that there are not. Another namespace's proxies are not its to use."""
    own, domain = gateway.metadata.namespace, objects.settings.dns_domain
    named = [each.value for each in gateway.spec.addresses if each.type == "Hostname"]
    hosts = named if is_manual(gateway) else [deployed_name(gateway)]
    found, missing = [], []
    for host in hosts:
        suffix = f".{own}.svc.{domain}"
        service = objects.services.get((own, host.removesuffix(suffix)))
        if service is None:
            missing.append(f"there is no Service {host.removesuffix(suffix)} in {own}")
        else:
            found.append(service)
    return found, missing


def _addresses(service: core.Service, domain: str) -> Iterator[tuple[str, str]]:
    """Where callers reach a Service from outside; from inside, if that is all it is for."""
    balanced = [each.ip or each.hostname for each in service.status.load_balancer.ingress]
    for address in [*service.spec.external_i_ps, *balanced]:
        yield ("IPAddress" if is_ip(address) else "Hostname"), address
    if service.spec.type == "ClusterIP" and not service.spec.external_i_ps:
        yield "Hostname", f"{service.metadata.name}.{service.metadata.namespace}.svc.{domain}"


def _missing_ports(service: core.Service, listeners: Sequence[OpenListener]) -> Iterator[str]:
    listed = {port.port for port in service.spec.ports}
    wanted = {listener.listener.port for listener in listeners if listener.kinds}
    for port in sorted(wanted - listed):
        yield f"Service {service.metadata.name} has no port {port}"
