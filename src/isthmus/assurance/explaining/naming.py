"""What a client means by a name: the service, its port, and what the client's name server answers."""

from __future__ import annotations

from typing import Any

from isthmus.assurance.explaining.asked import Asked, BadQuestion
from isthmus.assurance.explaining.lookups import Servers, resolver_for
from isthmus.dns.resolver import Tried
from isthmus.model.services import Protocol, Service, ServicePort

Object = dict[str, Any]


def service_named(name: str, asked: Asked) -> Service | None:
    """By its full name, or by what the client may shorten it to."""
    namespace, domain = asked.proxy.scope.namespace, asked.snapshot.settings.dns_domain
    wanted = name.lower().rstrip(".")
    names = (
        wanted,
        f"{wanted}.{namespace}.svc.{domain}",
        f"{wanted}.svc.{domain}",
        f"{wanted}.{domain}",
    )
    by_host: dict[str, Service] = {}
    for key, service in sorted(asked.snapshot.services.items()):
        if key.namespace == namespace or key.hostname not in by_host:
            by_host[key.hostname] = service
    return next((by_host[each] for each in names if each in by_host), None)


def port_of(service: Service | None, name: str, port: int) -> int:
    if service is None:
        return port or 80
    numbers = [each.number for each in service.ports if each.protocol is not Protocol.UDP]
    if not port and len(numbers) == 1:
        return numbers[0]
    if port not in numbers:
        shown = ", ".join(f"{name}:{number}" for number in numbers) or "none"
        wrong = f"has no port {port}" if port else "has several ports"
        raise BadQuestion(f"{service.origin} {wrong}: ask for one of {shown}")
    return port


def speaks_http(service: Service, number: int) -> bool:
    """On a port of undeclared protocol the client is taken to send HTTP."""
    return not _port(service, number).protocol.is_opaque


def starts_with_tls(service: Service, number: int) -> bool:
    """Whether the client itself does, and asks for the service by its name."""
    return _port(service, number).protocol.is_tls


def _port(service: Service, number: int) -> ServicePort:
    return next(each for each in service.ports if each.number == number)


def resolved(asked: Asked, host: str) -> Object:
    """What the full name is to the client, and who says so: the last one that is asked."""
    said = Servers.of(asked, resolver_for(asked, (), None)).step(Tried(host, "it is the full name"), "A")["asked"][-1]
    answer: Object = {"host": host, "addresses": said["addresses"], "by": said["by"]}
    if said["addresses"]:
        return answer
    return answer | {"detail": said["says"]} | ({"edit": said["edit"]} if said.get("edit") else {})


def address_of(asked: Asked, dns: Object, host: str, port: int) -> str:
    """Where the client connects to. A name that does not resolve is still asked about, at the service's own address."""
    if dns["addresses"]:
        return str(dns["addresses"][0])
    for upstream in asked.view.outbound.upstreams:
        if upstream.service.hostname == host and upstream.port.number == port and upstream.virtual_ips:
            return upstream.virtual_ips[0]
    return ""
