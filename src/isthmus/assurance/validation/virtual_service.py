"""What a VirtualService means beyond its shape: its hosts, its gateways, and routes of connections."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.http_route import http_route
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.route_parts import gateway_names, routes
from isthmus.assurance.validation.terms import (
    Object,
    bad_host,
    covers,
    dns_label,
    export_to,
    is_cidr,
    labels,
    positive_port,
)
from isthmus.assurance.validation.unreachable import unreachable
from isthmus.model.addresses import is_ip


def virtual_service(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    hosts, gateways = spec.get("hosts") or [], spec.get("gateways") or []
    delegate = not hosts
    yield from export_to(spec.get("exportTo") or [], "spec.exportTo")
    if not any(spec.get(kind) for kind in ("http", "tls", "tcp")):
        yield Problem(codes.SAYS_NOTHING, "spec", "needs at least one of http, tls, tcp")
    if delegate and (gateways or spec.get("tls") or spec.get("tcp")):
        yield Problem(
            codes.CONTRADICTION,
            "spec",
            "without hosts this is a delegate, and has only http routes and no gateways",
            "name the hosts, or leave gateways, tls and tcp out",
        )
    yield from _hosts(hosts, gateways)
    yield from gateway_names(gateways, "spec.gateways")
    on_gateway = delegate or any(name != "mesh" for name in gateways)
    for index, route in enumerate(spec.get("http") or []):
        yield from http_route(route, f"spec.http[{index}]", delegate, on_gateway)
    for index, route in enumerate(spec.get("tls") or []):
        yield from _tls(route, f"spec.tls[{index}]", hosts)
    for index, route in enumerate(spec.get("tcp") or []):
        path = f"spec.tcp[{index}]"
        for number, match in enumerate(route.get("match") or []):
            yield from _connection(match, f"{path}.match[{number}]")
        yield from routes(route.get("route") or [], f"{path}.route", required=True)
    for kind in ("http", "tls", "tcp"):
        yield from unreachable(spec.get(kind) or [], f"spec.{kind}")


def _hosts(hosts: list[str], gateways: list[str]) -> Iterator[Problem]:
    in_mesh = not gateways or "mesh" in gateways
    for index, host in enumerate(hosts):
        path = f"spec.hosts[{index}]"
        problem = bad_host(host, sni=bool(gateways))
        if problem:
            yield Problem(codes.NOT_A_HOST, path, problem)
        elif host == "*" and in_mesh:
            yield Problem(
                codes.NOT_A_HOST,
                path,
                "* is only for gateways, not for the mesh",
                "name a host, or name the gateways that the rules are for",
            )
        elif not in_mesh and "." not in host and not host.startswith("*") and not is_ip(host):
            yield Problem(
                codes.NOT_A_HOST, path, f"{host!r} is a short name, which gateways do not know", "write the full name"
            )
        for other in hosts[:index]:
            if covers(other, host) or covers(host, other):
                yield Problem(codes.TWICE, path, f"{host!r} is already covered by {other!r}: a host is given twice")


def _connection(match: Object, path: str) -> Iterator[Problem]:
    """What tls and tcp matches have in common."""
    for index, subnet in enumerate(match.get("destinationSubnets") or []):
        if not is_cidr(subnet):
            yield Problem(
                codes.NOT_AN_ADDRESS, f"{path}.destinationSubnets[{index}]", f"{subnet!r} is not an address or CIDR"
            )
    if match.get("sourceSubnet") and not is_cidr(match["sourceSubnet"]):
        yield Problem(
            codes.NOT_AN_ADDRESS, f"{path}.sourceSubnet", f"{match['sourceSubnet']!r} is not an address or CIDR"
        )
    if match.get("port") is not None:
        yield from positive_port(match["port"], f"{path}.port")
    yield from labels(match.get("sourceLabels") or {}, f"{path}.sourceLabels")
    yield from gateway_names(match.get("gateways") or [], f"{path}.gateways")
    if match.get("sourceNamespace") and not dns_label(match["sourceNamespace"]):
        yield Problem(codes.NOT_A_NAME, f"{path}.sourceNamespace", f"{match['sourceNamespace']!r} is not a namespace")


def _tls(route: Object, path: str, hosts: list[str]) -> Iterator[Problem]:
    if not route.get("match"):
        yield Problem(codes.MISSING, f"{path}.match", "is required")
    for number, match in enumerate(route.get("match") or []):
        where = f"{path}.match[{number}]"
        if not match.get("sniHosts"):
            yield Problem(codes.MISSING, f"{where}.sniHosts", "is required")
        for index, name in enumerate(match.get("sniHosts") or []):
            yield from _server_name(name, f"{where}.sniHosts[{index}]", hosts)
        yield from _connection(match, where)
    yield from routes(route.get("route") or [], f"{path}.route", required=True)


def _server_name(name: str, path: str, hosts: list[str]) -> Iterator[Problem]:
    """RFC 6066: addresses are not server names; some clients send them all the same."""
    if is_ip(name):
        yield Problem(codes.RISKY, path, f"{name} is an address; clients send names as SNI", "name the host")
    elif bad_host(name, sni=True):
        yield Problem(codes.NOT_A_HOST, path, bad_host(name, sni=True))
    elif not any(covers(host, name) for host in hosts):
        yield Problem(codes.CONTRADICTION, path, f"{name!r} is none of the hosts", "add it to spec.hosts")
