"""Gateways, the workloads that they are for, and each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from isthmus.assurance.analysis.items import Index, Item, Object, ports_of, selects
from isthmus.assurance.catalogue import gateways as codes
from isthmus.assurance.catalogue import routing
from isthmus.assurance.validation.terms import covers
from isthmus.model.issues import Issue

NETWORKING = "networking.istio.io"
# The default ingress gateway is taken to be there, with the ports that its installation gives it.
_DEFAULT_LABELS = {"istio": "ingressgateway", "app": "istio-ingressgateway"}
_DEFAULT_PORTS = {80, 443, 31400, 15443, 15021, 15012}


def servers_of(gateway: Item) -> Sequence[Object]:
    found: Sequence[Object] = gateway.spec.get("servers") or []
    return found


def selector_of(gateway: Item) -> Mapping[str, str]:
    found: Mapping[str, str] = gateway.spec.get("selector") or {}
    return found


def is_default(selector: Mapping[str, str]) -> bool:
    return bool(selector) and selects(selector, _DEFAULT_LABELS)


def workloads_of(index: Index, gateway: Item) -> list[Item]:
    """A Gateway's Pods, in whichever namespace they are."""
    return list(index.pods_of_every_namespace(selector_of(gateway)))


def gateway_ports(index: Index) -> Iterator[Issue]:
    for gateway in index.each("Gateway", NETWORKING):
        selector = selector_of(gateway)
        pods = workloads_of(index, gateway)
        if not pods and not is_default(selector):
            shown = ", ".join(f"{key}={value}" for key, value in selector.items()) or "none"
            yield gateway.finding(routing.NOT_FOUND, f"no Pod has the labels {shown}", path="spec.selector")
            continue
        open_ports = _open_ports(index, pods) if pods else set(_DEFAULT_PORTS)
        if open_ports is None:
            continue
        for number, server in enumerate(servers_of(gateway)):
            port = (server.get("port") or {}).get("number")
            if port and port not in open_ports:
                yield gateway.finding(
                    codes.PORT_NOT_ON_SERVICE,
                    f"port {port} is on no Service of the gateway's Pods",
                    path=f"spec.servers[{number}].port.number",
                )


def _open_ports(index: Index, pods: Sequence[Item]) -> set[int] | None:
    """The Pods' ports that Services lead to; None when there is no Service at all: then the gateway is reached in another way."""
    found: set[int] = set()
    seen = False
    for service in index.anywhere("Service"):
        selector = service.spec.get("selector") or {}
        if not selector or not any(
            pod.namespace == service.namespace and selects(selector, pod.labels) for pod in pods
        ):
            continue
        seen = True
        for port in ports_of(service):
            target = port.get("targetPort")
            # A Gateway may name the Service's port or the Pod's: the one leads to the other.
            found |= {port.get("port") or 0}
            found |= {target} if isinstance(target, int) and target else _named(pods, target, port)
    return found if seen else None


def _named(pods: Sequence[Item], name: object, port: Object) -> set[int]:
    if not name:
        return {port.get("port") or 0}
    if str(name).isdecimal():
        return {int(str(name))}
    return {
        declared["containerPort"]
        for pod in pods
        for container in pod.spec.get("containers") or []
        for declared in container.get("ports") or []
        if declared.get("name") == name and declared.get("containerPort")
    } or {port.get("port") or 0}


def conflicting_gateways(index: Index) -> Iterator[Issue]:
    """Two servers for one host on one port of one workload."""
    found: dict[Item, set[str]] = defaultdict(set)
    gateways = index.each("Gateway", NETWORKING)
    for one, other in combinations(gateways, 2):
        if not _may_share_pods(selector_of(one), selector_of(other)):
            continue
        for server in servers_of(one):
            for second in servers_of(other):
                hosts = _clash(one, server, other, second)
                if hosts:
                    port = server["port"]["number"]
                    found[one].add(f"{other.full_name} serves {', '.join(hosts)} on port {port}, too")
                    found[other].add(f"{one.full_name} serves {', '.join(hosts)} on port {port}, too")
    for gateway, clashes in found.items():
        yield gateway.finding(codes.CONFLICTING_GATEWAYS, "; ".join(sorted(clashes)))


def _may_share_pods(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return bool(one) and bool(other) and (selects(one, other) or selects(other, one))


def _clash(one: Item, server: Object, other: Item, second: Object) -> list[str]:
    """Hosts that both servers have on one port and address."""
    port, number = (server.get("port") or {}).get("number"), (second.get("port") or {}).get("number")
    if not port or port != number or (server.get("bind") or "") != (second.get("bind") or ""):
        return []
    return sorted({
        host
        for host in map(str, server.get("hosts") or [])
        for twin in map(str, second.get("hosts") or [])
        if _same_host(one, host, other, twin)
    })  # fmt: skip


def _same_host(one: Item, host: str, other: Item, twin: str) -> bool:
    space, name = _split(one, host)
    second_space, second_name = _split(other, twin)
    if space != second_space and "*" not in (space, second_space):
        return False
    return name == second_name or (
        name != "*" and second_name != "*" and (covers(name, second_name) and name == second_name)
    )


def _split(gateway: Item, host: str) -> tuple[str, str]:
    space, slash, name = host.rpartition("/")
    return (gateway.namespace if space == "." else space or "*") if slash else "*", name


def duplicate_certificates(index: Index) -> Iterator[Issue]:
    """Browsers reuse a connection for all hosts of a certificate, also for those of another Gateway."""
    by_certificate: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for gateway in index.each("Gateway", NETWORKING):
        for server in servers_of(gateway):
            tls = server.get("tls") or {}
            for certificate in {tls.get("credentialName"), tls.get("serverCertificate")} - {None, ""}:
                where = "secret" if certificate == tls.get("credentialName") else "file"
                key = (where, str(certificate))
                if gateway not in by_certificate[key]:
                    by_certificate[key].append(gateway)
    for (_, certificate), gateways in by_certificate.items():
        for gateway in gateways:
            others = [
                other
                for other in gateways
                if other is not gateway and selects(selector_of(gateway), selector_of(other))
            ]
            if others:
                names = ", ".join(other.full_name for other in others)
                yield gateway.finding(codes.DUPLICATE_CERTIFICATE, f"certificate {certificate} is also that of {names}")
