"""What a Sidecar means beyond its shape."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.gateway import port_of, server_tls
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.route_parts import destination
from isthmus.assurance.validation.terms import Object, bad_host, bad_socket_path, dns_label, selector
from isthmus.model.addresses import is_ip

_THIS_MACHINE = ("127.0.0.1:", "0.0.0.0:", "[::1]:", "[::]:")


def sidecar(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    ingress, egress = spec.get("ingress") or [], spec.get("egress") or []
    yield from selector((spec.get("workloadSelector") or {}).get("labels") or {}, "spec.workloadSelector.labels")
    if not ingress and not egress and not spec.get("outboundTrafficPolicy") and not spec.get("inboundConnectionPool"):
        yield Problem(codes.SAYS_NOTHING, "spec", "says nothing")
    ports: set[int] = set()
    for index, listener in enumerate(ingress):
        where, number = f"spec.ingress[{index}]", listener["port"].get("number")
        if number in ports:
            yield Problem(codes.TWICE, f"{where}.port.number", f"port {number} is given twice")
        ports.add(number)
        yield from _ingress(listener, where)
    yield from _egress(egress)
    proxy = (spec.get("outboundTrafficPolicy") or {}).get("egressProxy")
    if proxy:
        where = "spec.outboundTrafficPolicy.egressProxy"
        yield from destination(proxy, where)
        yield Problem(
            codes.OUTDATED, where, "egressProxy is outdated", "route to the egress gateway by a VirtualService"
        )
        if not proxy.get("port"):
            yield Problem(codes.MISSING, f"{where}.port", "is required")


def _ingress(listener: Object, path: str) -> Iterator[Problem]:
    bind, end = listener.get("bind") or "", listener.get("defaultEndpoint") or ""
    yield from port_of(listener["port"], f"{path}.port")
    if bind and not is_ip(bind):
        yield Problem(codes.NOT_AN_ADDRESS, f"{path}.bind", f"{bind!r} is not an address")
    if end and not end.startswith("unix://") and not end.startswith(_THIS_MACHINE):
        yield Problem(
            codes.NOT_AN_ADDRESS,
            f"{path}.defaultEndpoint",
            f"{end!r} is not this machine",
            "use 127.0.0.1:PORT, 0.0.0.0:PORT or a unix socket",
        )
    elif end and not end.startswith("unix://") and not _is_port(end.rpartition(":")[2]):
        yield Problem(codes.BAD_PORT, f"{path}.defaultEndpoint", f"{end!r} has no port")
    tls = listener.get("tls")
    if tls and (
        tls.get("mode") in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH")
        or tls.get("subjectAltNames")
        or tls.get("credentialNames")
    ):
        yield Problem(codes.NOT_DONE_HERE, f"{path}.tls", "this setting is not supported in a sidecar")
    elif tls:
        yield from server_tls(tls, f"{path}.tls")


def _egress(listeners: list[Object]) -> Iterator[Problem]:
    seen: set[tuple[object, object]] = set()
    for index, listener in enumerate(listeners):
        path, bind = f"spec.egress[{index}]", listener.get("bind") or ""
        number = (listener.get("port") or {}).get("number")
        if (bind, number) in seen:
            yield Problem(codes.TWICE, path, f"{bind or number or 'a listener without a port'} is given twice")
        seen.add((bind, number))
        if not listener["hosts"]:
            yield Problem(codes.MISSING, f"{path}.hosts", "at least one is required")
        for place, host in enumerate(listener["hosts"]):
            namespace, slash, name = host.partition("/")
            owner = namespace.removeprefix("~") or namespace
            if not slash or (owner not in ("*", ".", "~") and not dns_label(owner)) or bad_host(name):
                yield Problem(codes.NOT_A_HOST, f"{path}.hosts[{place}]", f"{host!r} is not NAMESPACE/HOST")
        if not listener.get("port") and not bind and index < len(listeners) - 1:
            yield Problem(
                codes.CONTRADICTION,
                path,
                "only the last listener may be without a port, for all that the others do not take",
                "move it to the end",
            )
        if bind.startswith("unix://") and bad_socket_path(bind):
            yield Problem(codes.NOT_AN_ADDRESS, f"{path}.bind", bad_socket_path(bind))
        elif bind and not bind.startswith("unix://") and not is_ip(bind):
            yield Problem(codes.NOT_AN_ADDRESS, f"{path}.bind", f"{bind!r} is neither an address nor a socket")


def _is_port(value: str) -> bool:
    return value.isdecimal() and 1 <= int(value) <= 65535
