"""Where routes lead: hosts, ports and subsets that are there and are seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from isthmus.assurance.analysis.hosts import Hosts, KnownHost, full_host
from isthmus.assurance.analysis.items import Index, Item, Object
from isthmus.assurance.analysis.virtual_services import http_routes, is_in_mesh
from isthmus.assurance.catalogue import mesh as mesh_codes
from isthmus.assurance.catalogue import routing as codes
from isthmus.model.issues import Issue

Place = tuple[str, Object]


def destinations_of(rule: Item) -> Iterator[Place]:
    """Every destination of a VirtualService with its path, those of mirrors, too."""
    for kind in ("http", "tls", "tcp"):
        for number, route in enumerate(rule.spec.get(kind) or []):
            path = f"spec.{kind}[{number}]"
            for index, way in enumerate(route.get("route") or []):
                if way.get("destination"):
                    yield f"{path}.route[{index}].destination", way["destination"]
            if route.get("mirror"):
                yield f"{path}.mirror", route["mirror"]
            for index, mirror in enumerate(route.get("mirrors") or []):
                if mirror.get("destination"):
                    yield f"{path}.mirrors[{index}].destination", mirror["destination"]


def destination_hosts(index: Index) -> Iterator[Issue]:
    hosts = Hosts(index)
    for rule in index.each("VirtualService"):
        for path, destination in destinations_of(rule):
            yield from _destination(index, hosts, rule, path, destination)
    for sidecar in index.each("Sidecar"):
        proxy = (sidecar.spec.get("outboundTrafficPolicy") or {}).get("egressProxy")
        if proxy:
            yield from _destination(index, hosts, sidecar, "spec.outboundTrafficPolicy.egressProxy", proxy)


def _destination(index: Index, hosts: Hosts, rule: Item, path: str, destination: Object) -> Iterator[Issue]:
    host = destination.get("host") or ""
    known = hosts.named(host, rule.namespace)
    seen = [each for each in known if each.is_seen_from(rule.namespace)]
    if known and not seen:
        names = ", ".join(sorted({each.source.full_name for each in known}))
        yield rule.finding(
            codes.NOT_FOUND, f"host {host} is not exported to namespace {rule.namespace} (by {names})", path=f"{path}.host",
            fix="Export it to this namespace, or route to another host.",
        )  # fmt: skip
        return
    if not seen:
        yield rule.finding(codes.NOT_FOUND, f"there is no host {full_host(host, rule.namespace)}", path=f"{path}.host")
        return
    yield from _hidden(index, rule, path, host, seen)
    ports = sorted({port for each in seen for port in each.ports})
    chosen = (destination.get("port") or {}).get("number")
    if chosen and ports and chosen not in ports:
        yield rule.finding(
            codes.NOT_FOUND,
            f"host {host} has no port {chosen}; it has {', '.join(map(str, ports))}",
            path=f"{path}.port",
        )
    elif not chosen and all(len(each.ports) > 1 for each in seen):
        yield rule.finding(
            codes.PORT_NEEDED, f"host {host} has the ports {', '.join(map(str, ports))}", path=f"{path}.port"
        )


def _hidden(index: Index, rule: Item, path: str, host: str, seen: Sequence[KnownHost]) -> Iterator[Issue]:
    """The rule is for more namespaces than the service: their requests end there."""
    if rule.kind == "Sidecar":
        return
    if not is_in_mesh(rule) or any("*" in each.export_to for each in seen):
        return
    given = rule.spec.get("exportTo") or index.settings.mesh_config.get("defaultVirtualServiceExportTo") or ["*"]
    reached = set().union(*(each.export_to for each in seen)) | {
        each.source.namespace for each in seen if "." in each.export_to
    }
    for name in given:
        if name not in (".", "*", rule.namespace) and name not in reached:
            what = f"is for namespace {name}, to which host {host} is not exported"
            yield rule.finding(codes.NOT_FOUND, what, path=f"{path}.host")
    if "*" in given:
        shown = ", ".join(sorted(reached - {"."}))
        yield rule.finding(
            mesh_codes.HIDDEN_SERVICE, f"is for all namespaces, but host {host} is exported to {shown} only", path=path
        )


def subsets(index: Index) -> Iterator[Issue]:
    """A subset is known when some DestinationRule that may apply names it."""
    known: dict[str, set[str]] = defaultdict(set)
    for rule in index.each("DestinationRule"):
        names = {subset.get("name") or "" for subset in rule.spec.get("subsets") or []}
        known[full_host(rule.spec.get("host") or "", rule.namespace)] |= names
    wildcards = {host: names for host, names in known.items() if host.startswith("*")}
    for rule in index.each("VirtualService"):
        for path, destination in destinations_of(rule):
            host, subset = destination.get("host") or "", destination.get("subset")
            if subset and not _is_known(known, wildcards, full_host(host, rule.namespace), subset):
                yield rule.finding(codes.NOT_FOUND, f"host {host} has no subset {subset}", path=f"{path}.subset")


def _is_known(known: Mapping[str, set[str]], wildcards: Mapping[str, set[str]], host: str, subset: str) -> bool:
    names = (host, f"{host}.svc.cluster.local", f"{host}.cluster.local")
    if any(subset in known.get(name, ()) for name in names):
        return True
    return any(subset in found and any(name.endswith(rule[1:]) for name in names) for rule, found in wildcards.items())


def ingress_subsets(index: Index) -> Iterator[Issue]:
    """Rules of the mesh that choose a subset do not hold for what a gateway routes to the host as a whole."""
    split = {
        full_host(host, rule.namespace)
        for rule in index.each("VirtualService")
        if is_in_mesh(rule)
        and any(
            (way.get("destination") or {}).get("subset")
            for route in http_routes(rule)
            for way in route.get("route") or []
        )
        for host in rule.spec.get("hosts") or []
    }
    for rule in index.each("VirtualService"):
        if is_in_mesh(rule):
            continue
        for path, destination in destinations_of(rule):
            host = destination.get("host") or ""
            if not destination.get("subset") and full_host(host, rule.namespace) in split and ".mirror" not in path:
                yield rule.finding(
                    codes.NO_EFFECT_ON_INGRESS, f"leads to {host}, whose rules for the mesh do not hold here", path=path
                )
